"""What all Dags of the ingest deployment have in common: retries, time limits, tags, the asset that wakes them.

It knows no task.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import Asset

from shared.contracts import KNOWLEDGE_CHANGED_ASSET

KNOWLEDGE_CHANGED: Final = Asset(KNOWLEDGE_CHANGED_ASSET)

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
        "execution_timeout": timedelta(minutes=60),
    },
}
