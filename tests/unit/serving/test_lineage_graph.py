"""The graph that stored events draw."""

from typing import Any

from deployments.serving.lineage_graph import Edge, build_graph, collect_runs
from shared import contracts
from shared.lineage import EventType, build_event, dataset_facets

RUN = "0198c0de-0000-7000-8000-00000000000"


def event(
    kind: EventType, run: int, minute: int, job: str = "ingest.write", bare: bool = False, **more: Any
) -> dict[str, Any]:
    made = build_event(
        kind,
        f"{RUN}{run}",
        contracts.INGEST_NAMESPACE,
        job,
        [] if bare else [contracts.DOCUMENTS],
        [] if bare else [contracts.CHUNKS],
        **more,
    )
    return {**made, "eventTime": f"2026-11-23T10:{minute:02}:00+00:00"}


DOCUMENTS, JOB, CHUNKS = (
    "dataset:file:/documents",
    "job:ghostwriter-ingest:ingest.write",
    "dataset:weaviate://ghostwriter:Chunk",
)


def test_datasets_and_the_job_between_them() -> None:
    facets = {contracts.CHUNKS: dataset_facets(version="abc", row_count=812, documents=3)}
    graph = build_graph([event("START", 1, 0), event("COMPLETE", 1, 1, output_facets=facets)])
    assert graph.edges == [Edge(DOCUMENTS, JOB), Edge(JOB, CHUNKS)]
    (job,) = graph.jobs
    assert (job.state, job.started_at, job.runs) == ("COMPLETE", "2026-11-23T10:00:00+00:00", 1)
    chunks = next(node for node in graph.datasets if node.id == CHUNKS)
    assert (chunks.version, chunks.row_count, chunks.details) == ("abc", 812, {"documents": 3})
    assert chunks.updated_at == "2026-11-23T10:01:00+00:00"


def test_jobs_of_two_deployments_meet_in_the_dataset() -> None:
    serving = build_event(
        "COMPLETE",
        f"{RUN}9",
        contracts.SERVING_NAMESPACE,
        "write_post",
        [contracts.CHUNKS],
        [contracts.POSTS],
    )
    graph = build_graph([event("COMPLETE", 1, 1), serving])
    assert len(graph.datasets) == 3 and len(graph.jobs) == 2
    assert Edge(CHUNKS, "job:ghostwriter-serving:write_post") in graph.edges


def test_a_dag_that_names_no_dataset_stays_out() -> None:
    assert build_graph([event("COMPLETE", 1, 1, job="ingest", bare=True)]).jobs == []


def test_a_late_start_does_not_turn_a_finished_run_back() -> None:
    late = event("START", 1, 5, bare=True)
    (job,) = build_graph([event("START", 1, 0), event("COMPLETE", 1, 1), late]).jobs
    assert job.state == "COMPLETE"


def test_the_last_ended_run_speaks_while_another_runs() -> None:
    error = {"errorMessage": {"message": "boom", "programmingLanguage": "python"}}
    events = [event("COMPLETE", 1, 1), event("FAIL", 2, 3, run_facets=error), event("START", 3, 4)]
    (job,) = build_graph(reversed(events)).jobs
    assert (job.state, job.error, job.runs) == ("FAIL", "boom", 3)


def test_a_bare_end_keeps_what_the_start_named() -> None:
    graph = build_graph([event("START", 1, 0), event("COMPLETE", 1, 1, bare=True)])
    assert len(graph.edges) == 2


def test_a_run_without_an_end_is_running() -> None:
    assert collect_runs([event("START", 1, 0)])[f"{RUN}1"].state == "RUNNING"


def test_a_reader_does_not_speak_for_what_a_writer_wrote() -> None:
    written = {contracts.CHUNKS: dataset_facets(version="abc", row_count=812)}
    read = {contracts.CHUNKS: dataset_facets(row_count=5), contracts.MODEL: dataset_facets(version="3")}
    reader = build_event(
        "COMPLETE",
        f"{RUN}9",
        contracts.SERVING_NAMESPACE,
        "write_post",
        [contracts.CHUNKS, contracts.MODEL],
        [contracts.POSTS],
        input_facets=read,
    )
    failed = event("FAIL", 2, 3, output_facets={contracts.CHUNKS: dataset_facets(version="half")})
    graph = build_graph([event("COMPLETE", 1, 1, output_facets=written), reader, failed])
    described = {node.name: (node.version, node.row_count) for node in graph.datasets}
    assert described["Chunk"] == ("abc", 812)
    assert described["ghostwriter"] == ("3", None)  # nobody wrote it here
