"""Makes, lists and revokes keys of the LLM server: `python -m deployments.llm.keys add NAME | list | revoke NAME`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from deployments.llm.keyring import DEFAULT_SCOPES, SCOPES, Key, KeyFileError, add_key, read_keys, revoke_key
from deployments.llm.settings import LlmSettings
from shared.settings import Settings, get_settings

_LIMITS = ("requests_per_minute", "tokens_per_day", "concurrency")


def find_key_file(settings: LlmSettings, shared_settings: Settings) -> Path:
    """Where this installation keeps its keys."""
    return settings.llm_keys_file or shared_settings.secrets_dir / "llm_keys.json"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.llm.keys", description="Keys of the LLM server."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="make a key and print it, this once")
    add.add_argument("name")
    add.add_argument(
        "--scopes", nargs="+", choices=SCOPES, default=DEFAULT_SCOPES, help="what it may ask for"
    )
    for limit in _LIMITS:
        add.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N", help="default: no limit")
    commands.add_parser("list", help="names, scopes and limits; a key itself is not kept")
    commands.add_parser("revoke", help="from now on it opens nothing").add_argument("name")
    return parser


def main(arguments: Sequence[str] | None = None, path: Path | None = None) -> int:
    """Does what the command line says; a running server sees it with its next request."""
    given = build_parser().parse_args(arguments)
    path = path or find_key_file(LlmSettings(), get_settings())
    try:
        if given.command == "add":
            limits = {limit: getattr(given, limit) for limit in _LIMITS}
            print(add_key(path, given.name, scopes=tuple(given.scopes), **limits))
        elif given.command == "revoke":
            revoke_key(path, given.name)
            print(f"{given.name} is revoked")
        else:
            for key in read_keys(path):
                print(describe_key(key))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        print(f"keys: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}", file=sys.stderr)
        return 1
    except (KeyFileError, OSError) as error:
        print(f"keys: {error}", file=sys.stderr)
        return 1
    return 0


def describe_key(key: Key) -> str:
    """One line on a key."""
    limits = [f"{limit}={number}" for limit in _LIMITS if (number := getattr(key, limit)) is not None]
    revoked = f"revoked {_day(key.revoked)}" if key.revoked is not None else ""
    return "  ".join([key.name, f"made {_day(key.created)}", ",".join(key.scopes), *limits, revoked]).rstrip()


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


if __name__ == "__main__":
    sys.exit(main())
