"""The batches of a plan, and what of their documents came through: read from the hand-over.

It knows no ledger and no store.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pyarrow as pa

from deployments.ingest import schemas
from deployments.ingest.handover import RunFiles
from deployments.ingest.ledger import sum_counts
from deployments.ingest.model import Problem


class Batch(TypedDict):
    """Documents of one source that one mapped task reads or writes; which ones is in the hand-over."""

    source: str
    number: int
    turn: int  # of the plan that made it
    label: str  # "guides: assets.md … triggers.md (12)", the map index; at most 250 characters
    documents: int
    bytes: int
    counts: dict[str, int]  # of what `extract` found: documents, chunks, unchanged, problems, gone


class Planned(TypedDict):
    """What a plan came to."""

    # added, changed, unchanged, moved, gone, quarantined, problems, failed_sources: as far as they are known unread
    counts: dict[str, int]
    batches: dict[str, list[Batch]]  # by connector, those with nothing to read left out


def name_file(step: str, batch: Batch) -> str:
    """The batch's file of one step; a source's name has no dot, and no two plans have the same turn."""
    return f"{step}.{batch['turn']}.{batch['source']}.{batch['number']:05d}"


@dataclass
class Yield:
    """What came of a plan's batches."""

    missing: set[str] = field(
        default_factory=set
    )  # URIs that were to be read and are neither loaded nor explained
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # unchanged, embedded, reused
    seconds: dict[str, float] = field(default_factory=dict)  # by step, of all its tasks together


@dataclass(frozen=True)
class PlanFiles:
    """A plan with the files of its batches."""

    files: RunFiles
    turn: int
    notes: dict[str, Any]  # accepted, batches (a number by source), counts, sources, lost, seconds

    @classmethod
    def read(cls, files: RunFiles, turn: int) -> "PlanFiles":
        """Raises HandoverLostError."""
        return cls(files, turn, files.read_notes(f"plan.{turn}"))

    def list_names(self, step: str) -> Iterator[str]:
        """The files of a step that are there, batch by batch."""
        there = set(self.files.list_names(f"{step}.{self.turn}."))
        return (name for name in self._name_all(step) if name in there)

    def _name_all(self, step: str) -> Iterator[str]:
        for source, count in self.notes["batches"].items():
            yield from (f"{step}.{self.turn}.{source}.{number:05d}" for number in range(count))

    def read_tables(self, step: str) -> Iterator[pa.Table]:
        """What a step left, in columns."""
        for name in self.list_names(step):
            yield from self.files.read_tables(name)

    def read_lost(self) -> dict[str, int]:
        """Damaged documents that can't be read in this run, and how many chunks the store lost of each."""
        return {row["uri"]: row["lost"] for row in self.files.read(f"plan.{self.turn}")}

    def read_problems(self) -> Iterator[Problem]:
        """Those that the plan knew already."""
        return map(schemas.row_to_problem, self.files.read(f"kept.{self.turn}"))

    def weigh(self) -> Yield:
        """Compare what was planned with what was loaded, a batch at a time."""
        came = Yield(seconds=dict(self.notes["seconds"]))
        there = set(self.files.list_names(""))
        for source, count in self.notes["batches"].items():
            for number in range(count):
                end = f"{self.turn}.{source}.{number:05d}"
                planned = {
                    row["uri"] for row in self.files.read_group(f"listed.{self.turn}.{source}", number)
                }
                came.missing |= planned - self._explain(end, there, came)
        return came

    def _explain(self, end: str, there: set[str], came: Yield) -> set[str]:
        """URIs of the batch that are loaded, known, gone or a problem."""
        if f"documents.{end}" not in there:
            return set()
        notes = self.files.read_notes(f"documents.{end}")
        problems = [schemas.row_to_problem(row) for row in self.files.read(f"problems.{end}")]
        came.problems += problems
        loaded: set[tuple[str, str, str]] = set()
        if f"loaded.{end}" in there:
            loaded = {tuple(row.values()) for row in self.files.read(f"loaded.{end}")}
            done = self.files.read_notes(f"loaded.{end}")
            came.counts = sum_counts(came.counts, {key: done[key] for key in ("embedded", "reused")})
            came.seconds["load"] = came.seconds.get("load", 0) + done["seconds"]
        came.seconds["extract"] = came.seconds.get("extract", 0) + notes["seconds"]
        explained = {*notes["gone"], *(problem.uri for problem in problems)}
        for row in self.files.read(f"documents.{end}"):
            if row["known"] or (row["uri"], row["content_hash"], row["recipe"]) in loaded:
                explained.add(row["uri"])
                came.counts = sum_counts(came.counts, {"unchanged": int(row["known"])})
        return explained
