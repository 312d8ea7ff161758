"""What every connector must do; run on the fake and on each real one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from hashlib import sha256

import pytest

from deployments.ingest.connectors.port import (
    MAX_BYTES,
    MAX_URI,
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    SourceUnavailableError,
)
from deployments.ingest.model import Problem, Reference
from shared.contracts import document_uri

TEXTS = {"one.md": b"# One\n", "two.txt": b"two", "three.html": b"<p>three</p>"}


class Place(ABC):
    """Where a connector's documents lie, as a test changes it. The source is called `docs`."""

    name = "docs"
    tells_size_before_opening = True

    @abstractmethod
    def connect(self) -> Connector:
        """A connector that has seen nothing yet, as each task has its own."""

    @abstractmethod
    def save(self, documents: Mapping[str, bytes]) -> None:
        """Writes documents, by path."""

    @abstractmethod
    def delete(self, path: str) -> None: ...

    @abstractmethod
    def break_listing(self) -> None:
        """From now on, listing fails when it has begun."""

    def save_too_large(self, path: str) -> None:
        self.save({path: b"x" * (MAX_BYTES + 1)})

    def list(self, known: Mapping[str, str] | None = None) -> dict[str, Reference]:
        """The documents by path; anything else is a failure."""
        found, problems = self.look(known)
        assert problems == {}
        return found

    def look(self, known: Mapping[str, str] | None = None) -> tuple[dict[str, Reference], dict[str, Problem]]:
        connector = self.connect()
        try:
            listed = list(connector.list_references(known or {}))
        finally:
            connector.close()
        assert len({one.uri for one in listed}) == len(listed), "a URI was listed twice"
        start = document_uri(self.name, "")
        return (
            {one.uri.removeprefix(start): one for one in listed if isinstance(one, Reference)},
            {one.uri.removeprefix(start): one for one in listed if isinstance(one, Problem)},
        )

    def open(self, reference: Reference) -> bytes:
        connector = self.connect()
        try:
            raw = connector.open_document(reference)
        finally:
            connector.close()
        assert raw.content_hash == sha256(raw.content).hexdigest(), "the hash is not of the very bytes"
        assert (raw.reference.uri, raw.reference.key) == (reference.uri, reference.key)
        self.opened_fingerprint = raw.reference.fingerprint
        return raw.content


def remember(listed: Mapping[str, Reference]) -> dict[str, str]:
    return {reference.key: reference.fingerprint for reference in listed.values()}


class ConnectorContract:
    """Subclasses give the fixture `place`, which is empty."""

    def sync(self, place: Place, known: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
        """What a sync remembers and what it read: only what shows another fingerprint is opened."""
        remembered, read = {}, set()
        for path, reference in place.list(known).items():
            fingerprint = reference.fingerprint
            if known.get(reference.key) != fingerprint:
                place.open(reference)
                fingerprint = place.opened_fingerprint
                read.add(path)
            remembered[reference.key] = fingerprint
        return remembered, read

    def test_it_lists_the_whole_source_and_opens_the_very_bytes(self, place: Place) -> None:
        place.save(TEXTS)
        listed = place.list()
        assert set(listed) == set(TEXTS)
        for path, reference in listed.items():
            assert place.open(reference) == TEXTS[path]
            assert reference.source == place.name and len(reference.uri) <= MAX_URI
            assert 0 < len(reference.fingerprint) <= 200  # as the ledger keeps it
            assert reference.size in (None, len(TEXTS[path]))

    def test_what_did_not_change_is_not_read_again(self, place: Place) -> None:
        place.save(TEXTS)
        known, read = self.sync(place, {})
        assert read == set(TEXTS)
        for _ in range(3):
            known, read = self.sync(place, known)
            assert read == set()

    def test_a_change_shows_whatever_it_is(self, place: Place) -> None:
        """Also one of the same length, right after the last, and one that brings back what was there before."""
        place.save(TEXTS)
        known, _ = self.sync(place, {})
        for content in (b"# Two\n", b"# Ten\n", b"# One\n", b"# One, longer\n"):
            place.save({"one.md": content})
            known, read = self.sync(place, known)
            assert read == {"one.md"}
        assert self.sync(place, known)[1] == set()

    def test_what_changed_after_it_was_listed_is_not_taken_for_what_was_listed(self, place: Place) -> None:
        place.save(TEXTS)
        listed = place.list()
        place.save({"one.md": b"# New\n"})
        try:
            assert place.open(listed["one.md"]) in (b"# New\n", b"# One\n")
        except DocumentGoneError:
            return
        known = {**remember(listed), listed["one.md"].key: place.opened_fingerprint}
        place.save({"one.md": b"# One\n"})
        again = place.list(known)["one.md"]
        assert known.get(again.key) != again.fingerprint or place.open(listed["one.md"]) == b"# One\n"

    def test_an_added_and_a_deleted_document_show(self, place: Place) -> None:
        place.save(TEXTS)
        known, _ = self.sync(place, {})
        place.save({"four.md": b"four"})
        place.delete("two.txt")
        _, read = self.sync(place, known)
        assert read == {"four.md"}
        assert set(place.list(known)) == {"one.md", "three.html", "four.md"}

    def test_what_is_gone_when_it_is_opened_is_said_to_be_gone(self, place: Place) -> None:
        place.save(TEXTS)
        reference = place.list()["two.txt"]
        place.delete("two.txt")
        with pytest.raises(DocumentGoneError):
            place.open(reference)

    def test_what_is_too_large_is_refused_and_stops_nothing_else(self, place: Place) -> None:
        place.save(TEXTS)
        place.save_too_large("big.txt")
        found, problems = place.look()
        if place.tells_size_before_opening:
            assert set(problems) == {"big.txt"} and "split it" in problems["big.txt"].message
            assert problems["big.txt"].fingerprint
        else:
            with pytest.raises(DocumentUnreadableError, match="split it"):
                place.open(found.pop("big.txt"))
        assert set(found) == set(TEXTS)

    def test_a_listing_that_breaks_says_so(self, place: Place) -> None:
        place.save(TEXTS)
        known, _ = self.sync(place, {})
        place.break_listing()
        with pytest.raises(SourceUnavailableError) as caught:
            place.look(known)
        assert str(caught.value)
