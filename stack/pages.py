"""What a user opens when the stack is up, and how to sign in.

It knows names and addresses only.
"""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from stack.config import StackConfig
from stack.operations import ComponentStatus

PAGES = (
    ("The desk (chat)", "serving"),
    ("Lineage (a tab of the desk)", "serving"),
    ("Airflow: ingest", "ingest-api-server"),
    ("Airflow: training", "training-api-server"),
    ("Models (MLflow, no login)", "mlflow"),
    ("Lineage events (Marquez's API, no login)", "marquez"),
)


def list_pages(rows: Iterable[ComponentStatus]) -> list[tuple[str, str]]:
    """Name and address of each page that can be opened now."""
    urls = {row.name: row.url for row in rows if row.state in {"ready", "starting", "external"}}
    return [(name, urls[component]) for name, component in PAGES if urls.get(component)]


def show_pages(config: StackConfig, rows: Iterable[ComponentStatus]) -> None:
    """Print the pages, the user and the file that holds the password."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    for name, url in list_pages(rows):
        table.add_row(name, url)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"\n  user admin, password in {config.admin_password_file}", markup=False)
