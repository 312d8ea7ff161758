"""What a user opens when the stack is up, and how to sign in.

It knows addresses only.
"""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from stack.config import StackConfig

PAGES = (
    ("The desk (chat)", "SERVING_PORT", ""),
    ("Lineage (a tab of the desk)", "SERVING_PORT", ""),
    ("Airflow: ingest", "INGEST_PORT", ""),
    ("Airflow: training", "TRAINING_PORT", ""),
    ("Models (MLflow, no login)", "MLFLOW_PORT", ""),
)


def list_pages(ports: Mapping[str, int]) -> list[tuple[str, str]]:
    """Name and address of each page."""
    return [(name, f"http://127.0.0.1:{ports[port]}{path}") for name, port, path in PAGES]


def show_pages(config: StackConfig) -> None:
    """Print the pages, the user and the file that holds the password."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    for name, url in list_pages(config.ports):
        table.add_row(name, url)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"\n  user admin, password in {config.admin_password_file}", markup=False)
