"""HTML: what a page says, without what is around it on every page of its site."""

import re
from typing import Any, Final

from bs4 import BeautifulSoup, Comment, Tag
from markdownify import MarkdownConverter

from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import (
    build_extraction,
    check_size,
    has_word,
    normalize_text,
    parse_date,
    refuse_damaged,
)
from deployments.ingest.formats.port import Extractor, UnreadableError
from deployments.ingest.model import Extraction

MAX_TAGS: Final = 600_000  # opening and closing; about twenty seconds
MAX_DEPTH: Final = 60  # deeper tags are taken as their text: the converter calls itself thrice a level
_MAX_ITEMS: Final = 1_000  # of a numbered list, and _MAX_HEAD rows of a table's head: it counts them for each
_MAX_HEAD: Final = 10
_MAX_SPAN: Final = 20  # columns of one cell: each becomes one
_MAX_LINK: Final = 300  # characters

_NO_TEXT: Final = (
    "script", "style", "noscript", "template", "iframe", "object", "svg", "math", "canvas", "form", "button", "select",
    "nav", "dialog", "video", "audio",
)  # fmt: skip
_CHROME: Final = frozenset({
    "nav", "navbar", "navigation", "menu", "sidebar", "sphinxsidebar", "related", "breadcrumb", "breadcrumbs", "footer",
    "navheader", "navfooter", "headerlink", "linenos", "skip-link", "sr-only", "cookie-banner",
})  # fmt: skip
_OF_TABLES: Final = ("caption", "thead", "tbody", "tfoot", "tr", "td", "th")
_LAID_OUT: Final = ("table", "pre", "h1", "h2", "h3", "h4", "h5", "h6")  # what only a table for layout holds
_ROLES: Final = frozenset(
    {"navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar"}
)
_AROUND: Final = ("header", "footer", "aside")  # of the page; inside an article they belong to it
_CONTENT: Final = ("main", "article")
_ENOUGH: Final = 0.3  # of the page's text: a marked main part with less is not the page's
_AUTHORS: Final = ("author", "dc.creator", "dcterms.creator", "article:author")
_DATES: Final = ("article:published_time", "date", "dc.date", "dcterms.date", "dcterms.created", "pubdate")


class HtmlExtractor(Extractor):
    """The main content as Markdown; title, language, author and date as the head names them."""

    name = "html"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        markup, notes = decode_text(content)
        with refuse_damaged("a web page"):
            page = parse_html(markup)
            title, metas = _find_title(page), _read_metas(page)
            language = str(page.html.get("lang") or page.html.get("xml:lang") or "") if page.html else ""
            text = convert_to_markdown(find_content(page))
        return build_extraction(
            text,
            markdown=True,
            title=title,
            language=language,
            author=next((metas[key] for key in _AUTHORS if metas.get(key)), ""),
            dated=next((found for key in _DATES if (found := parse_date(metas.get(key, "")))), None),
            notes=notes,
        )


def parse_html(markup: str) -> BeautifulSoup:
    """The tree of a page, however it is written. Raises UnreadableError for one of too many tags."""
    check_size(len(markup))
    if markup.count("<") > MAX_TAGS:
        raise UnreadableError(f"it has more than {MAX_TAGS:,} tags: split it")
    # The library warns of what says that it is XML, and of a line that could be a file's name.
    markup = re.sub(r"\A\s*<\?xml[^>]*>", "", normalize_text(markup)) + "\n"
    page = BeautifulSoup(markup, "lxml")
    _flatten(page)
    return page


def _flatten(page: BeautifulSoup) -> None:
    """Bound the depth: whatever asks for what is around a tag takes bounded time, and calls nest no deeper."""
    waiting: list[tuple[Tag, int]] = [(page, 0)]
    while waiting:
        tag, depth = waiting.pop()
        for child in [child for child in tag.children if isinstance(child, Tag)]:
            if depth < MAX_DEPTH:
                waiting.append((child, depth + 1))
            else:
                child.replace_with(f" {child.get_text(' ')} ")


def find_content(page: BeautifulSoup) -> Tag:
    """The part of the page that is not navigation, header, footer and the like; changes the page."""
    _remove(page.find_all(_NO_TEXT))
    _remove([a for a in page.find_all("a") if a.get_text().strip() in {"#", "¶", "§"}])
    body = page.body or page
    whole = _count_letters(body)
    found = [tag for tag in page.find_all(_is_main) if not tag.find_parent(_is_main)]
    if len(found) == 1 and _count_letters(found[0]) > whole * _ENOUGH:
        body = found[0]
    around = [
        tag for tag in body.find_all(_is_around) if not tag.find_parent(_is_main) or body.name in _CONTENT
    ]
    if sum(_count_letters(tag) for tag in around if not tag.find_parent(_is_around)) < whole:
        _remove(around)
    return body


def convert_to_markdown(content: Tag) -> str:
    """A tree's text as Markdown: headings, lists, tables, code, and links out into the Web; changes the tree."""
    _tame(content)
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        table_infer_header=True,
        wrap=True,
        wrap_width=None,
        autolinks=False,
        strip_pre="strip_one",  # its other way takes quadratic time for blank lines
        code_language_callback=_find_code_language,
    )
    lines = converter.convert_soup(content).split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def _count_letters(tag: Tag) -> int:
    return sum(map(len, tag.get_text().split()))


def _is_main(tag: Tag) -> bool:
    return tag.name in _CONTENT or tag.get("role") == "main"


def _is_around(tag: Tag) -> bool:
    names = {*tag.get_attribute_list("class"), tag.get("id")}
    return (
        (tag.name in _AROUND and not tag.find_parent(_is_main))
        or tag.get("role") in _ROLES
        or not _CHROME.isdisjoint(names)
        or tag.has_attr("hidden")
        or tag.get("aria-hidden") == "true"
    )


def _remove(tags: list[Any]) -> None:
    for tag in tags:
        if not tag.decomposed:
            tag.decompose()


def _tame(content: Tag) -> None:
    """What the converter takes more than linear time for, and what says nothing outside of the page."""
    for table in content.find_all("table"):
        rows = table.find_all("tr")
        if table.find(_LAID_OUT) or not any(
            len(row.find_all(("td", "th"), recursive=False, limit=2)) > 1 for row in rows
        ):
            parts = [part for part in table.find_all(_OF_TABLES) if part.find_parent("table") is table]
            for part in (table, *parts):
                part.name = "div"
    for node in list(content.descendants):
        if isinstance(node, Comment):
            node.extract()
        elif isinstance(node, Tag):
            if node.name == "img":
                node.replace_with(str(node.get("alt") or ""))
            else:
                _tame_tag(node)


def _tame_tag(tag: Tag) -> None:
    if tag.name == "a":
        href = str(tag.get("href") or "")
        outward = href.startswith(("http://", "https://")) and len(href) <= _MAX_LINK
        tag.attrs = {"href": href} if outward else {}
    elif tag.name == "ol":
        if len(tag.find_all("li", recursive=False, limit=_MAX_ITEMS + 1)) > _MAX_ITEMS:
            tag.name = "ul"
        if not re.fullmatch(r"[0-9]{1,6}", str(tag.get("start"))):
            tag.attrs = {}
    elif tag.name == "thead" and len(tag.find_all("tr", limit=_MAX_HEAD + 1)) > _MAX_HEAD:
        tag.name = "tbody"
    elif tag.name in {"td", "th"} and not re.fullmatch("[0-9]{1,2}", str(tag.get("colspan"))):
        tag.attrs = {}
    if int(str(tag.get("colspan") or 0)) > _MAX_SPAN:
        tag.attrs = {}


def _find_title(page: BeautifulSoup) -> str:
    for tag in (page.title, page.h1):
        if tag is not None and has_word(title := tag.get_text(" ").replace("¶", " ")):
            return title
    return ""


def _read_metas(page: BeautifulSoup) -> dict[str, str]:
    metas: dict[str, str] = {}
    for tag in page.find_all("meta", limit=1_000):
        key = str(tag.get("name") or tag.get("property") or "").lower()
        metas.setdefault(key, str(tag.get("content") or "").strip())
    return metas


def _find_code_language(tag: Tag) -> str:
    """As `class="language-python"` says, or `highlight-python` of an element around."""
    for near in (tag, tag.code, tag.parent, tag.parent.parent if tag.parent else None):
        for name in near.get_attribute_list("class") if near is not None else ():
            if found := re.fullmatch(
                r"(?:language|lang|highlight|brush)[-:]([A-Za-z0-9+#]{1,20})", str(name)
            ):
                return "" if found[1] in {"default", "none", "text"} else found[1]
    return ""
