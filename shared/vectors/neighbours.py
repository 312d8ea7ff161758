"""Finds the objects of a collection that don't find themselves by their own vector, as a kill may leave them.

It knows Weaviate's collections by what they can be asked, and imports nothing of it.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

MEND_ROUNDS = 3  # of writing what is lost anew
AT_ONCE = 4
WINDOW = 1_000
SAME = 1e-5  # distance below which two vectors are one, after float32 and normalising
TWINS = 64  # objects of one vector that are looked at


class Lost(NamedTuple):
    """An object that its own vector does not find."""

    item: Any
    vector: Sequence[float]


def find_lost(collection: Any, ids: Sequence[str] | None = None) -> Iterator[Lost]:
    """Those of the whole collection, or of these ids; memory grows with what is found alone."""
    if ids is None:
        # The client's iterator begins anew when it is asked after its end; a generator does not.
        items = (item for item in collection.iterator(include_vector=True))
    else:
        found = collection.query.fetch_objects_by_ids(list(ids), limit=len(ids), include_vector=True)
        items = (item for item in found.objects)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while window := list(islice(items, WINDOW)):
            vectors = [_get_vector(item) for item in window]
            finds = pool.map(lambda pair: _finds_itself(collection, *pair), zip(window, vectors, strict=True))
            for item, vector, itself in zip(window, vectors, finds, strict=True):
                if not itself:
                    yield Lost(item, vector)


def _get_vector(item: Any) -> Sequence[float]:
    vectors = item.vector
    return vectors["default"] if isinstance(vectors, dict) else vectors


def _finds_itself(collection: Any, item: Any, vector: Sequence[float]) -> bool:
    for limit in (2, TWINS):
        near = collection.query.near_vector(vector, limit=limit, return_metadata=["distance"]).objects
        if any(found.uuid == item.uuid for found in near):
            return True
        if len(near) < limit or any((found.metadata.distance or 0) > SAME for found in near):
            return False  # what is further away came, and it did not
    return True  # one of so many that are all the same to a search
