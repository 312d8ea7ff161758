"""The OpenLineage extractor of our tasks: the datasets of inlets and outlets, on every event, plus what they recorded.

It knows no Dag. Marquez draws a job with the datasets of its latest event, so START, COMPLETE and FAIL all name them;
Airflow alone would drop every asset whose URI scheme no provider knows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attr
from airflow.providers.openlineage.extractors.base import BaseExtractor, OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    dataset_version_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
)

from shared.contracts import LineageDataset
from shared.lineage import dataset_of
from shared.orchestration.recording import Record, take_record

Recorded = Mapping[str, Any]
_STATISTICS = {"row_count": "rowCount", "size": "size"}


@attr.define
class DetailsDatasetFacet(DatasetFacet):
    """Facet `ghostwriter` of a dataset."""

    details: dict[str, Any] = attr.field(factory=dict)


@attr.define
class DetailsRunFacet(RunFacet):
    """Facet `ghostwriter` of a run."""

    details: dict[str, Any] = attr.field(factory=dict)


class TaskExtractor(BaseExtractor):
    """For `@task` functions, mapped or not, and for our own operators."""

    @classmethod
    def get_operator_classnames(cls) -> list[str]:
        """`task_type` of the operators; a mapped task has the type of what it maps."""
        return [
            "_PythonDecoratedOperator",
            "_BranchPythonDecoratedOperator",
            "_ShortCircuitDecoratedOperator",
            "FineTuneOperator",
        ]

    def _execute_extraction(self) -> OperatorLineage:
        return self._build(Record())

    def extract_on_complete(self, task_instance: Any) -> OperatorLineage:
        """Also for a failed task: what it recorded before it failed is as true."""
        return self._build(take_record(task_instance))

    def _build(self, record: Record) -> OperatorLineage:
        inputs = [*find_datasets(self.operator.inlets), *record.inputs]
        outputs = [*find_datasets(self.operator.outlets), *record.outputs]
        return OperatorLineage(
            inputs=[
                _build_input(dataset, record.inputs.get(dataset, {})) for dataset in dict.fromkeys(inputs)
            ],
            outputs=[
                _build_output(dataset, record.outputs.get(dataset, {})) for dataset in dict.fromkeys(outputs)
            ],
            run_facets={"ghostwriter": DetailsRunFacet(details=record.run)} if record.run else {},
        )


def find_datasets(assets: Iterable[Any]) -> list[LineageDataset]:
    """The datasets that inlets or outlets stand for; what stands for none of ours is left out."""
    uris = [asset if isinstance(asset, str) else getattr(asset, "uri", "") for asset in assets or ()]
    return [dataset for uri in uris if (dataset := dataset_of(uri))]


def _build_input(dataset: LineageDataset, recorded: Recorded) -> InputDataset:
    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet
    statistics = _statistics(recorded)
    return InputDataset(
        *dataset,
        facets=_facets(recorded),
        inputFacets={"inputStatistics": facet(**statistics)} if statistics else {},
    )


def _build_output(dataset: LineageDataset, recorded: Recorded) -> OutputDataset:
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    statistics = _statistics(recorded)
    return OutputDataset(
        *dataset,
        facets=_facets(recorded),
        outputFacets={"outputStatistics": facet(**statistics)} if statistics else {},
    )


def _statistics(recorded: Recorded) -> dict[str, int]:
    return {facet: recorded[name] for name, facet in _STATISTICS.items() if recorded.get(name) is not None}


def _facets(recorded: Recorded) -> dict[str, DatasetFacet]:
    facets: dict[str, DatasetFacet] = {}
    if recorded.get("version") is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(str(recorded["version"]))
    details = {
        name: value for name, value in recorded.items() if name != "version" and name not in _STATISTICS
    }
    if details:
        facets["ghostwriter"] = DetailsDatasetFacet(details=details)
    return facets
