"""Pages of lists, as OpenAI's clients walk through them."""

from collections.abc import Sequence
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from deployments.llm.errors import ApiError


class Named(Protocol):
    """What can be in a list."""

    @property
    def id(self) -> str: ...


Item = TypeVar("Item")
AnyNamed = TypeVar("AnyNamed", bound=Named)


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class PageQuery(BaseModel):
    """Which part; any other query parameter is refused."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=20, ge=1, le=1000)
    after: str | None = Field(default=None, description="the id of the last item of the page before")


def cut_page(items: Sequence[AnyNamed], limit: int, after: str | None) -> "Page[AnyNamed]":
    """So many items behind the one named. Raises ApiError where there is none of that id."""
    start = 0
    if after:
        start = next((index for index, item in enumerate(items, 1) if item.id == after), 0)
        if not start:
            raise ApiError(400, f"after: there is no {after[:80]} in this list.", param="after")
    data = list(items[start : start + limit])
    edges = {"first_id": data[0].id, "last_id": data[-1].id} if data else {}
    return Page(data=data, has_more=len(items) > start + limit, **edges)
