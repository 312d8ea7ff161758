"""`python -m stack.launch FILE`: becomes the process that a launch file describes (arguments, environment, folder).

It keeps passwords out of command lines and of supervisor's configuration, and ends what a crash of the same process
left behind; it knows no component.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from stack import orphans
from stack.secrets import write_private


def write_launch_file(path: Path, command: Sequence[str], env: Mapping[str, str], folder: Path) -> bool:
    """Write what to run; returns False where the file already said the same."""
    content = json.dumps(
        {"command": list(command), "env": dict(env), "folder": str(folder)}, indent=1, sort_keys=True
    )
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    write_private(path, content)
    return True


def end_leftovers(note: Path) -> int:
    """End the children that outlived the process of the last launch, then note this process in its place.

    supervisor restarts a process that was killed and leaves what that had forked: an orphaned worker of an Airflow
    scheduler holds the database connections it inherited, with the locks of the scheduler's last transaction, for ever.
    They get no SIGTERM: an Airflow task goes on after one.
    """
    swept = 0
    with contextlib.suppress(OSError, ValueError, KeyError):
        last = json.loads(note.read_text(encoding="utf-8"))
        swept = orphans.sweep(orphans.find_group(last["pid"], last["created"]), politely=False)
    write_private(note, json.dumps({"pid": os.getpid(), "created": psutil.Process().create_time()}))
    return swept


def main() -> None:
    path = Path(sys.argv[1])
    launch = json.loads(path.read_text(encoding="utf-8"))
    swept = end_leftovers(path.with_suffix(".pid"))
    if swept:
        print(f"ended {swept} processes that outlived their parent", flush=True)
    os.chdir(launch["folder"])
    os.umask(0o077)
    os.execvpe(launch["command"][0], launch["command"], {**os.environ, **launch["env"]})  # noqa: S606 - our own argument list


if __name__ == "__main__":
    main()
