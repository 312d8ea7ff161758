"""What all Dags of the training deployment have in common: assets, retries, tags.

It knows no task.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import Asset

from shared import contracts

KNOWLEDGE_BASE: Final = Asset(contracts.KNOWLEDGE_BASE_ASSET)
EXAMPLES: Final = Asset(contracts.EXAMPLES_ASSET)
TRAINING_SET: Final = Asset(contracts.TRAINING_SET_ASSET)
CHALLENGER: Final = Asset(contracts.CHALLENGER_ASSET)
CHAMPION: Final = Asset(contracts.CHAMPION_ASSET)

DAG_DEFAULTS: Final[dict[str, Any]] = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "max_consecutive_failed_dag_runs": 3,
    "tags": ["ghostwriter", "training"],
    "default_args": {
        "owner": "ghostwriter",
        "retries": 6,  # back off over about five minutes: enough for a restart of any part
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=2),
        "execution_timeout": timedelta(minutes=30),
    },
}
