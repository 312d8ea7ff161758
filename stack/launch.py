"""`python -m stack.launch FILE`: becomes the process that a launch file describes (arguments, environment, folder).

It keeps passwords out of command lines and of supervisor's configuration; it knows no component.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

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


def main() -> None:
    launch = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.chdir(launch["folder"])
    os.umask(0o077)
    os.execvpe(launch["command"][0], launch["command"], {**os.environ, **launch["env"]})  # noqa: S606 - our own argument list


if __name__ == "__main__":
    main()
