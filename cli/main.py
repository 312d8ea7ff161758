"""The `ghostwriter` command: a client of the running system.

It knows no rule of any deployment; each subcommand has a module of its own.
"""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.exceptions import TyperException

from cli import audit, demo, knowledge, models, stack, train
from cli.output import CommandError, print_error
from cli.write import write
from shared.airflow import AirflowError
from shared.registry.port import RegistryError
from shared.retrieval_settings import RetrievalSettingsError
from shared.secret_files import SecretError
from shared.voice import VoiceError

INTERRUPTED = 130

app = typer.Typer(
    name="ghostwriter",
    help="Write posts in your team's voice from your team's knowledge, and say where every word came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("write")(write)
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(train.app, name="train")
app.add_typer(models.app, name="models")
app.add_typer(audit.app, name="audit")
app.add_typer(stack.app, name="stack")
app.command("demo")(demo.demo)


def run(arguments: Sequence[str], *, connection: Any = None) -> int:
    """Run one command and return its exit code; tests hand in a connection."""
    as_json = "--json" in arguments
    try:
        code = app(list(arguments), prog_name="ghostwriter", standalone_mode=False, obj=connection)
    except CommandError as error:
        print_error(str(error), as_json=as_json)
        return error.exit_code
    except RegistryError as error:
        # MLflow's client says it at length where nobody listens.
        down = "Max retries exceeded" in str(error)
        print_error(
            "MLflow can't be reached: is the stack up? make up" if down else str(error), as_json=as_json
        )
        return 1
    except (SecretError, VoiceError, RetrievalSettingsError) as error:
        print_error(str(error), as_json=as_json)
        return 1
    except AirflowError as error:
        print_error(f"{error} `ghostwriter stack status` shows what is up.", as_json=as_json)
        return 1
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        print_error(f"{message} Try `ghostwriter --help`.", as_json=as_json)
        return getattr(error, "exit_code", 1)
    except (typer.Abort, KeyboardInterrupt):
        print_error("stopped", as_json=as_json)
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the `ghostwriter` script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
