"""reStructuredText, as far as docutils knows it; what it doesn't is kept as it stands."""

from contextlib import suppress
from io import StringIO
from typing import Any, ClassVar, Final

from docutils import nodes
from docutils.core import publish_doctree, publish_from_doctree
from docutils.parsers.rst import Directive, directives

from deployments.ingest.formats.blocks import list_paragraphs
from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import (
    build_extraction,
    find_first_line,
    normalize_text,
    parse_date,
)
from deployments.ingest.formats.html import convert_to_markdown, parse_html
from deployments.ingest.formats.port import Extractor
from deployments.ingest.model import Extraction

MAX_STEPS: Final = 200_000_000  # about a minute
_SETTINGS: Final = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "halt_level": 5,
    "report_level": 1,
    "syntax_highlight": "none",
    "math_output": "LaTeX",
    "embed_stylesheet": False,
    "stylesheet_path": None,
    "toc_backlinks": False,
    "sectsubtitle_xform": False,
    "initial_header_level": 2,
}


class _Undated(Directive):
    """`date` would say when a document was read, not when it was written."""

    has_content: ClassVar[bool] = True

    def run(self) -> list[Any]:
        return [nodes.Text("")]


class RstExtractor(Extractor):
    """The document as Markdown. Directives and roles of other programs, such as Sphinx, are kept as they stand.

    What docutils can't read, or not in bounded time, is plain text, with a note.
    """

    name = "rst"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`. Nothing that the document names is included."""
        decoded, notes = decode_text(content)
        source = normalize_text(decoded)
        if _estimate_steps(source) < MAX_STEPS:
            with suppress(Exception):
                return _extract_markdown(source, notes)
        notes = (*notes, "read as plain text: its markup could not be")
        return build_extraction(source, markdown=False, title=find_first_line(source), notes=notes)


def _estimate_steps(source: str) -> int:
    """For every mark that may open something, docutils looks through the rest of the paragraph for its end."""
    paragraphs = (source[slice(*span)] for span in list_paragraphs(source))
    return sum(len(text) * (50 + sum(map(text.count, "*`|_["))) for text in paragraphs)


def _extract_markdown(source: str, notes: tuple[str, ...]) -> Extraction:
    directives.register_directive("date", _Undated)
    settings = {**_SETTINGS, "warning_stream": StringIO()}
    tree = publish_doctree(source, settings_overrides=settings)
    author, dated = _find(tree, nodes.author), parse_date(_find(tree, nodes.date))
    title = _find(tree, nodes.title) or find_first_line(source)
    for info in list(tree.findall(nodes.docinfo)):
        info.parent.remove(info)
    _keep_unknown(tree)
    markup = publish_from_doctree(tree, writer="html5", settings_overrides=settings)
    page = parse_html(markup.decode("utf-8"))
    text = convert_to_markdown(page.body or page)
    return build_extraction(text, markdown=True, title=title, author=author, dated=dated, notes=notes)


def _find(tree: nodes.document, kind: type[nodes.Element]) -> str:
    return next((node.astext() for node in tree.findall(kind)), "")


def _keep_unknown(tree: nodes.document) -> None:
    """Put what a message of the parser is about in the message's place: it quotes what it did not understand."""
    for message in list(tree.findall(nodes.system_message)):
        quoted = [child for child in message.children if isinstance(child, nodes.literal_block)]
        if message.parent is not None:
            message.parent.replace(message, quoted)
    tree.transform_messages.clear()
    tree.parse_messages.clear()
