# mypy: ignore-errors
"""What all Dags of the ingest deployment have in common: sources, assets, retries, tags.

It knows no task.
"""

from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final

from airflow.sdk import Asset

from deployments.ingest.composition import knowledge_dir
from deployments.ingest.sources import list_sources
from shared.contracts import source_asset
from shared.settings import get_settings

SOURCES: Final = list_sources(knowledge_dir(get_settings()))
"""Folder names, read when the Dag is parsed: a new folder is a new arm within half a minute."""
SOURCE_ASSETS: Final[Any] = (
    reduce(or_, [Asset(source_asset(source)) for source in SOURCES]) if SOURCES else None
)

DAG_DEFAULTS: Final[dict[str, Any]] = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "max_consecutive_failed_dag_runs": 5,
    "tags": ["ghostwriter", "ingest"],
    "default_args": {
        "owner": "ghostwriter",
        "retries": 5,  # back off over about three minutes: enough for a restart of any part
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=30),
    },
}
