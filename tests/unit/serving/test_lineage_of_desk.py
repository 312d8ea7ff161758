from datetime import UTC, datetime, timedelta
from uuid import uuid4

from fastapi.testclient import TestClient

from deployments.serving.api import create_api
from deployments.serving.lineage import EVENTS_PER_JOB, read_graph
from shared import contracts
from shared.ledger.models import LineageEvent
from shared.lineage import build_event
from tests.fake_desk import PASSWORD, FakeWorld, add_lineage


def find(graph: dict, name: str) -> dict:  # type: ignore[type-arg]
    (node,) = [node for node in graph["nodes"] if node["name"] == name]
    return node


def test_graph_connects_documents_and_examples_to_posts(world: FakeWorld) -> None:
    add_lineage(world)
    client = TestClient(create_api(world.desk))
    graph = client.get("/api/lineage", auth=("admin", PASSWORD)).json()
    names = {node["id"]: node["name"] for node in graph["nodes"]}
    edges = {(names[edge["source"]], names[edge["target"]]) for edge in graph["edges"]}
    assert {("/documents", "ingest.load"), ("ingest.load", "Chunk"), ("Chunk", "write_post")} <= edges
    assert {("/examples", "fine_tune.tune"), ("ghostwriter", "write_post"), ("write_post", "posts")} <= edges


def test_nodes_tell_their_last_run(world: FakeWorld) -> None:
    add_lineage(world)
    with world.sessions() as session:
        graph = read_graph(session)
    job = find(graph, "write_post")
    assert (job["kind"], job["failed"], job["details"]["state"]) == ("job", False, "COMPLETE")
    assert (job["details"]["took"], job["details"]["runs"]) == ("3.0 s", "1")
    posts = find(graph, "posts")
    assert (posts["kind"], posts["details"]["version"], posts["details"]["rows"]) == ("dataset", "v2", "7")


def test_busy_job_does_not_push_the_others_out(world: FakeWorld) -> None:
    add_lineage(world)
    runs = EVENTS_PER_JOB + 20
    with world.sessions.begin() as session:
        for number in range(runs):
            run_id, at = str(uuid4()), datetime.now(UTC) + timedelta(seconds=number)
            kind = "FAIL" if number == runs - 1 else "COMPLETE"
            payload = build_event(
                kind, run_id, contracts.SERVING_NAMESPACE, "write_post", [contracts.CHUNKS], [contracts.POSTS],
                event_time=at,
            )  # fmt: skip
            session.add(
                LineageEvent(
                    digest=run_id, deployment="serving", run_id=run_id, job_namespace=contracts.SERVING_NAMESPACE,
                    job_name="write_post", event_type=kind, event_time=at, payload=payload,
                )
            )  # fmt: skip
    with world.sessions() as session:
        graph = read_graph(session)
    job = find(graph, "write_post")
    assert (job["failed"], job["details"]["runs"]) == (True, str(runs + 1))
    assert find(graph, "ingest.load")["details"]["state"] == "COMPLETE"


def test_no_event_gives_an_empty_graph(world: FakeWorld) -> None:
    with world.sessions() as session:
        assert read_graph(session) == {"nodes": [], "edges": []}
