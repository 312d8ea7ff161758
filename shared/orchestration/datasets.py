"""Lineage datasets as Airflow assets, to be named in a task's `inlets=` and `outlets=`.

It knows no Dag; nothing is scheduled on these assets.
"""

from airflow.sdk import Asset

from shared.contracts import LineageDataset
from shared.lineage import lineage_asset


def dataset_asset(dataset: LineageDataset) -> Asset:
    """The asset that stands for a dataset: `@task(inlets=[dataset_asset(contracts.DOCUMENTS)])`."""
    return Asset(uri=lineage_asset(dataset))
