"""The knowledge sources as they are declared: `content/sources.toml`, the folders of knowledge, and uploads.

It looks at names and options alone; whether a source can be reached shows when it is listed.
"""

import os
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from deployments.ingest.connectors.naming import show
from deployments.ingest.connectors.registry import CONNECTORS, check_options, list_keys
from deployments.ingest.model import Problem, Source
from shared.contracts import SOURCE_NAME_RULE, document_source, document_uri, is_source_name
from shared.uploads import Uploads, UploadsUnavailableError

SOURCES_FILE: Final = "sources.toml"
EVERY_SOURCE: Final = document_uri("", "")
"""URI of a problem for which any source may be missing from the list."""
UPLOADS: Final = "uploads"
REMOVAL_SHARE: Final = 0.5
_TABLES = ("source", "removals")


def read_declarations(
    path: Path, knowledge_dir: Path, uploads: Uploads
) -> tuple[list[Source], list[Problem]]:
    """All sources by name, and what is wrong with the declarations; the folder of knowledge lies in that of content.

    A declaration that can't be used is a Problem whose URI is that of its source; where the file or the folder of
    knowledge can't be read at all, EVERY_SOURCE. `find_gone` tells what is not declared any more in spite of those.
    """
    problems: list[Problem] = []
    declared: dict[str, Source] = {}
    spoilt: set[str] = set()
    in_file = _read_file(path, problems)
    beside = [*_list_folders(knowledge_dir, problems), *_find_uploads(uploads)]
    for number, (name, found) in enumerate([*in_file, *beside]):
        if name in declared or name in spoilt:
            # Which of the two was meant can't be known, and one's documents must not pass for the other's.
            spoilt.add(name)
            problems.append(
                _complain(name, _describe_twin(declared.pop(name, None), found, number < len(in_file)))
            )
        elif isinstance(found, Problem):
            spoilt.add(name)
            problems.append(found)
        else:
            declared[name] = found
    return sorted(declared.values(), key=lambda source: source.name), problems


def find_gone(known: Iterable[str], sources: Iterable[Source], problems: Iterable[Problem]) -> set[str]:
    """Of the names that were declared before, those that are not any more; none that a problem may hide."""
    uris = {problem.uri for problem in problems}
    if EVERY_SOURCE in uris:
        return set()
    return set(known) - {document_source(uri) for uri in uris} - {source.name for source in sources}


def read_removal_share(path: Path) -> float:
    """Of a source's documents, the share that may go at once without a person; the usual one where none can be read."""
    removals = _read_tables(path, []).get("removals", {})
    share = removals.get("share", REMOVAL_SHARE) if isinstance(removals, dict) else REMOVAL_SHARE
    return float(share) if _is_share(share) else REMOVAL_SHARE


Found = tuple[str, Source | Problem]


def _read_tables(path: Path, problems: list[Problem]) -> dict[str, Any]:
    message = ""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if not path.is_symlink():
            return {}
        message = "is a link to nothing: mend or delete it"
    except OSError as error:
        message = f"can't be read: {error.strerror}"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 (byte {error.start}): save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        message = f"is no valid TOML: {error}"
    problems.append(Problem(EVERY_SOURCE, f"{path.name} {message}"))
    return {}


def _read_file(path: Path, problems: list[Problem]) -> list[Found]:
    tables = _read_tables(path, problems)
    problems += [_complain("", _describe_key(key, _TABLES)) for key in sorted(tables.keys() - set(_TABLES))]
    removals = tables.get("removals", {})
    if not isinstance(removals, dict):
        problems.append(_complain("", "[removals]: is a table with share = 0.5 in it"))
    else:
        problems += [
            _complain("", f"[removals] {_describe_key(key, ('share',))}")
            for key in sorted(removals.keys() - {"share"})
        ]
        if "share" in removals and not _is_share(removals["share"]):
            problems.append(_complain("", "[removals] share: is a number from 0 to 1"))
    entries = tables.get("source", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problems.append(_complain("", "[source]: write each source as [[source]], in double brackets"))
        return []
    found: list[Found] = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("name")
        if not isinstance(name, str) or not is_source_name(name):
            called = f" {ascii(name)[:100]}" if name is not None else ""
            problems.append(_complain("", f"source {number}{called}: {SOURCE_NAME_RULE}; give it a name"))
        else:
            found.append((name, _read_source(name, entry)))
    return found


def _read_source(name: str, entry: dict[str, Any]) -> Source | Problem:
    kinds = [kind for kind in CONNECTORS if kind != UPLOADS]
    kind = entry.get("connector")
    if kind == UPLOADS:
        return _complain(name, "uploads need no entry: whatever is uploaded is a source of itself")
    if not isinstance(kind, str) or kind not in CONNECTORS:
        near = get_close_matches(str(kind), kinds, n=1)
        guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(kinds)}"
        return _complain(name, f"connector: there is no {ascii(kind)[:100]}; {guess}")
    options = {key: value for key, value in entry.items() if key not in ("name", "connector")}
    try:
        return Source(name, kind, check_options(kind, options))
    except ValidationError as error:
        keys = ("name", "connector", *list_keys(kind))
        messages = [
            _describe_key(str(item["loc"][0]), keys)
            if item["type"] == "extra_forbidden"
            else f"{'.'.join(map(str, item['loc']))}: {item['msg']}".removeprefix(": ")
            for item in error.errors(include_input=False)
        ]
        return _complain(name, "; ".join(messages))


def _list_folders(knowledge_dir: Path, problems: list[Problem]) -> list[Found]:
    try:
        entries = sorted(entry for entry in knowledge_dir.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not knowledge_dir.is_symlink():
            message = f"There is no folder {knowledge_dir}: create it, with one folder per source inside"
        else:
            message = f"The folder {knowledge_dir} can't be read: {error.strerror}"
        problems.append(Problem(EVERY_SOURCE, message))
        return []
    found: list[Found] = []
    for entry in entries:
        shown = show(document_uri("", entry.name))
        # os.path: what can't be looked at (a dead mount) is neither.
        if os.path.isdir(entry) and is_source_name(entry.name):
            found.append(
                (entry.name, Source(entry.name, "folder", (("path", f"{knowledge_dir.name}/{entry.name}"),)))
            )
        elif os.path.isdir(entry):
            uri = show(document_uri(entry.name, "")).removesuffix("/")
            problems.append(Problem(uri, f"{SOURCE_NAME_RULE}: rename the folder"))
        elif os.path.isfile(entry):
            problems.append(
                Problem(shown, "it lies beside the sources: move it into a folder, such as guides/")
            )
        else:
            problem = Problem(
                show(document_uri(entry.name, "")).removesuffix("/"),
                "it is a link to nothing, or can't be read: mend or delete it",
            )
            found.append((entry.name, problem))
    return found


def _find_uploads(uploads: Uploads) -> list[Found]:
    try:
        if uploads.is_empty():
            return []
    except UploadsUnavailableError:
        pass  # listing the source says so, and its documents stay meanwhile
    return [(UPLOADS, Source(UPLOADS, UPLOADS))]


def _describe_twin(first: Source | None, second: Source | Problem, from_file: bool) -> str:
    if any(isinstance(one, Source) and one.connector == UPLOADS for one in (first, second)):
        return "this is the name of what is uploaded: give the other source another name"
    other = "two sources of this name" if from_file else "a source of this name, and there is a folder"
    return f"declares {other}: rename one of them"


def _describe_key(key: str, keys: Iterable[str]) -> str:
    near = get_close_matches(key, list(keys), n=1)
    return f"{ascii(key)[1:-1][:100]}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")


def _complain(source: str, message: str) -> Problem:
    """Of one source, or of the file as a whole."""
    uri = document_uri(source, "").removesuffix("/") if source else EVERY_SOURCE
    return Problem(uri, f"{SOURCES_FILE}: {message}")


def _is_share(share: Any) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1
