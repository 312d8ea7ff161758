"""Runs the Dag `ask_llm` in this process and prints what its tasks returned: `python -m tests.clients.airflow_run`.

The environment names a fresh AIRFLOW_HOME and the connections.
"""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb

DAGS = Path(__file__).with_name("dags")


def main() -> int:
    """Prints one JSON object of results by task; fails where the run did."""
    initdb()
    bag = DagBag(str(DAGS))
    if bag.import_errors:
        print(bag.import_errors, file=sys.stderr)
        return 1
    run = bag.dags["ask_llm"].test()
    results = {
        instance.task_id: instance.xcom_pull(task_ids=instance.task_id)
        for instance in run.get_task_instances()
    }
    print(json.dumps({"state": str(run.state), "results": results}, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
