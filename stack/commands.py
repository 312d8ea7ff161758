"""`python -m stack up|down|status|info|logs|clean`: the stack from a shell, for `make`.

It knows no rule; `stack.operations` does.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from shared.airflow import AirflowError
from stack import operations
from stack.config import load_config
from stack.driver import StartError
from stack.first_post import describe_post
from stack.first_run import FirstRunError
from stack.pages import show_pages
from stack.ports import PortError
from stack.preflight import PreflightError
from stack.report import PlainReport, make_report
from stack.state_folder import check_removable
from stack.supervisor import SupervisorError
from stack.weaviate_binary import BinaryError

INTERRUPTED = 130
EXPECTED_ERRORS = (
    AirflowError, BinaryError, FileNotFoundError, FirstRunError, PortError, PreflightError, StartError, SupervisorError,
    ValueError,
)  # fmt: skip
"""Errors whose message already says what happened and what to do."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start everything, or what is named, with what it needs")
    start.add_argument("--only", default="", help="component names, separated by commas")
    start.add_argument("--deployment", default="", help="ingest, training, llm, serving or lineage")
    commands.add_parser("down", help="stop everything; data is kept")
    commands.add_parser("status", help="every component as it is now")
    commands.add_parser("info", help="addresses and password files, as JSON")
    log = commands.add_parser("logs", help="the last lines of a log")
    log.add_argument("name", nargs="?")
    log.add_argument("--follow", "-f", action="store_true")
    commands.add_parser("clean", help="stop everything and remove all data")
    return parser.parse_args(arguments)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = parse(arguments)
    config = load_config()
    match options.command:
        case "up":
            only = [name for name in options.only.split(",") if name]
            report = make_report()
            result = operations.up(config, only, options.deployment or None, report=report)
            if not result.started and not result.post:
                report.say("everything is up and healthy already")
            if result.post:
                print(describe_post(result.post))
                report.say(
                    "training goes on behind this: the first champion takes some minutes (make demo waits for it)"
                )
            if not only and not options.deployment:
                show_pages(config, operations.status(config))
        case "down":
            operations.down(config, report=PlainReport())
        case "status":
            rows = operations.status(config)
            for row in rows:
                print(describe_row(row))
            if not rows:
                print("nothing was started here yet: make up")
            return 0 if rows and all(row.state in {"ready", "unavailable", "external"} for row in rows) else 3
        case "info":
            print(json.dumps(operations.info(config), indent=2))
        case "logs":
            for line in operations.logs(config, options.name, options.follow):
                print(line, flush=True)
        case "clean":
            check_removable(config)
            if not is_sure(f"Remove all data in {config.state_dir}? [y/N] "):
                print("kept")
                return 1
            operations.clean(config, report=PlainReport())
    return 0


def describe_row(row: operations.ComponentStatus) -> str:
    """Name, state, process, time since its start, address or reason."""
    minutes, seconds = divmod(int(row.seconds), 60)
    since = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if row.pid else ""
    return f"{row.name:24} {row.state:12} {row.pid or '':>8} {since:>9}  {row.url or row.detail}".rstrip()


def is_sure(question: str) -> bool:
    """Whether the user says yes, or has said so by YES=1; no answer is no."""
    if os.environ.get("YES") == "1":
        return True
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def main() -> None:
    try:
        sys.exit(run(sys.argv[1:]))
    except EXPECTED_ERRORS as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain while it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(
            "\nstopped by Ctrl-C. What is running stays up: `make up` goes on from here, `make down` stops it.",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)
