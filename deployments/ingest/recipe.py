"""How a document's text and passages are made, by name: when a name changes, so may they.

It does no I/O.
"""

from typing import Final

from deployments.ingest.formats.port import Extractor
from deployments.ingest.splitting import SPLITTING_VERSION

SPLITTING: Final = f"split-{SPLITTING_VERSION}"
"""The second part of every recipe now."""


def describe_extractor(extractor: Extractor) -> str:
    """The first part of a recipe: `markdown-1`. Texts are kept under it."""
    return f"{extractor.name}-{extractor.version}"


def describe_recipe(extractor: Extractor) -> str:
    """The whole: `markdown-1+split-2`."""
    return f"{describe_extractor(extractor)}+{SPLITTING}"


def read_parts(recipe: str) -> tuple[str, str]:
    """Extractor and splitting of a recipe; both empty for what was written before there were recipes."""
    extractor, _, splitting = recipe.partition("+")
    return extractor, splitting
