"""Our own OpenLineage events: their shape, the spool, and the names that assets map to."""

import logging
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from openlineage.client import facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent

from shared import contracts
from shared.lineage import LineageSpool, append_line, build_event, dataset_facets, dataset_of, lineage_asset
from tests.json_rows import read_rows


def read_lines(path: Path) -> list[dict]:
    return list(read_rows(path))


def test_an_event_is_one_that_the_client_itself_would_build() -> None:
    run_id = str(uuid4())
    event = build_event(
        "COMPLETE",
        run_id,
        "ns",
        "job",
        [contracts.CHUNKS],
        [contracts.POSTS],
        run_facets={"errorMessage": {"message": "m", "programmingLanguage": "python"}},
        input_facets={contracts.CHUNKS: dataset_facets(row_count=5)},
        output_facets={contracts.POSTS: dataset_facets(version="p1", row_count=1, model="3")},
    )
    # The client's classes refuse bad run ids, times and URIs, and know the fields of each facet.
    output = event["outputs"][0]
    rebuilt = RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=event["eventType"],
        run=Run(event["run"]["runId"]),
        job=Job(event["job"]["namespace"], event["job"]["name"]),
        inputs=[InputDataset(event["inputs"][0]["namespace"], event["inputs"][0]["name"])],
        outputs=[OutputDataset(output["namespace"], output["name"])],
    )
    assert rebuilt.run.runId == run_id
    version = {k: v for k, v in output["facets"]["version"].items() if not k.startswith("_")}
    assert facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(**version).datasetVersion == "p1"
    statistics = {k: v for k, v in output["outputFacets"]["outputStatistics"].items() if k[0] != "_"}
    assert (
        facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(**statistics).rowCount
        == 1
    )
    assert output["facets"]["ghostwriter"]["details"]["model"] == "3"
    assert event["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 5
    for facets in (event["run"]["facets"], output["facets"], output["outputFacets"]):
        assert all(facet["_producer"] and facet["_schemaURL"] for facet in facets.values())


def test_an_event_with_odd_line_ends_is_one_line_for_any_reader(tmp_path: Path) -> None:
    spool = LineageSpool(tmp_path, "serving")
    message = "a\u2028b\u2029c\x85d\re"
    spool.emit("FAIL", str(uuid4()), "ns", "job", run_facets={"errorMessage": {"message": message}})
    assert len(spool.path.read_text(encoding="utf-8").splitlines()) == 1
    (event,) = read_lines(spool.path)
    assert event["run"]["facets"]["errorMessage"]["message"] == message


def test_the_spool_holds_one_line_per_event(tmp_path: Path) -> None:
    spool = LineageSpool(tmp_path, "serving")
    for event_type in ("START", "COMPLETE"):
        spool.emit(event_type, str(uuid4()), "ns", "write_post", [contracts.CHUNKS], [contracts.POSTS])
    lines = read_lines(tmp_path / "serving" / "events.jsonl")
    assert [line["eventType"] for line in lines] == ["START", "COMPLETE"]


def test_lines_of_many_threads_never_mix(tmp_path: Path) -> None:
    spool = LineageSpool(tmp_path, "llm")

    def emit_many(name: str) -> None:
        for _ in range(50):
            spool.emit("OTHER", str(uuid4()), "ns", name * 2_000)

    threads = [threading.Thread(target=emit_many, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [line["job"]["name"] for line in read_lines(spool.path)]
    assert len(names) == 200 and all(len(set(name)) == 1 for name in names)


def test_a_line_after_a_torn_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"torn": ')
    append_line(path, '{"whole": 1}')
    assert path.read_bytes() == b'{"torn": \n{"whole": 1}\n'


def test_a_spool_that_cannot_be_written_warns_and_lets_the_work_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "serving").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        LineageSpool(tmp_path, "serving").emit("START", str(uuid4()), "ns", "write_post")
    assert "was not spooled" in caplog.text


@pytest.mark.parametrize(
    ("uri", "dataset"),
    [
        (contracts.KNOWLEDGE_CHANGED_ASSET, contracts.DOCUMENTS),
        (contracts.KNOWLEDGE_BASE_ASSET, contracts.CHUNKS),
        (contracts.TRAINING_SET_ASSET, contracts.TRAINING_SET),
        (contracts.CHAMPION_ASSET, contracts.MODEL),
        ("file:///elsewhere", None),
    ],
)
def test_assets_stand_for_datasets(uri: str, dataset: contracts.LineageDataset | None) -> None:
    assert dataset_of(uri) == dataset


def test_every_dataset_has_an_asset_that_maps_back() -> None:
    datasets = [value for value in vars(contracts).values() if isinstance(value, contracts.LineageDataset)]
    assert datasets and all(dataset_of(lineage_asset(dataset)) == dataset for dataset in datasets)
