"""Pieces of the pages: what they show, and that nothing of it is taken for markup."""

import re

from deployments.serving.audit import audit_post
from deployments.serving.lineage import read_graph
from deployments.serving.page.fragments import show_audit, show_knowledge, show_problems, show_removals
from deployments.serving.posts import list_posts
from tests.fake_desk import FakeWorld, add_lineage


def test_files_that_cannot_be_used_are_shown_with_what_to_do() -> None:
    first = {"uri": "knowledge://notes/<script>.txt", "message": "it is binary: save it as plain text"}
    shown = show_problems([first])
    assert "1 file can't be used" in shown
    assert "knowledge://notes/&lt;script&gt;.txt" in shown and "<script>" not in shown
    assert "it is binary: save it as plain text" in shown
    assert "2 files can't be used" in show_problems([first, {**first, "uri": "knowledge://notes/b.txt"}])


def test_nothing_is_shown_where_every_file_can_be_used() -> None:
    assert show_problems([]) == ""


def test_removals_that_wait_are_shown_with_the_way_out() -> None:
    message = "2 of 3 documents of `<b>` are gone; `ghostwriter knowledge sync --accept-removals`"
    shown = show_removals([{"uri": "knowledge://<b>", "message": message, "digest": "a" * 64}])
    assert "--accept-removals" in shown and "&lt;b&gt;" in shown and "<b>" not in shown
    assert show_removals([]) == ""


def test_every_time_that_is_shown_names_its_zone(world: FakeWorld) -> None:
    add_lineage(world)
    post = [*world.desk.writer.write("asset event", "base")][-1].post  # type: ignore[union-attr]
    ended = "2026-11-24T12:30:05+01:00"
    world.airflow.runs.append({"dag_run_id": "scheduled__2", "state": "success", "end_date": ended})
    with world.sessions() as session:
        audit, graph = audit_post(session, world.registry, post.id), read_graph(session)
        (listed,) = list_posts(session)
    knowledge = world.desk.describe_knowledge()
    shown = show_audit(audit) + show_knowledge(knowledge) + str([node["details"] for node in graph["nodes"]])
    times = re.findall(r"\d\d:\d\d(?::\d\d)?(?: UTC)?", shown)
    assert len(times) > 5 and all(time.endswith(" UTC") for time in times)
    written = [
        audit["created"],
        listed["created"],
        knowledge["last_ingest"]["at"],
        knowledge["last_change"]["at"],
    ]
    assert all(stamp.endswith("+00:00") for stamp in written)
    assert "24 Nov 2026, 11:30 UTC" in shown


def test_last_ingestion_and_last_change_are_two_things(world: FakeWorld) -> None:
    world.airflow.runs += [
        {"dag_run_id": "early", "state": "success", "end_date": "2026-11-23T08:00:00Z"},
        {"dag_run_id": "late", "state": "failed", "end_date": "2026-11-24T08:00:00.5Z"},
        {"dag_run_id": "now", "state": "running", "end_date": None},
    ]
    shown = show_knowledge(world.desk.describe_knowledge())
    assert "<b>24 Nov 2026, 08:00 UTC</b><span>last ingestion (failed)</span>" in shown
    assert "Run of the last ingestion: <code>late</code>" in shown
    assert "Run of the last change: <code>scheduled__1</code>" in shown


def test_without_its_airflow_the_last_ingestion_is_unknown_and_the_rest_is_there(world: FakeWorld) -> None:
    world.airflow.down = True
    state = world.desk.describe_knowledge()
    assert (state["last_ingest"], state["documents"]) == (None, 3)
    shown = show_knowledge(state)
    assert "<b>–</b><span>last ingestion</span>" in shown
    assert "can&#x27;t be asked when it last ran: ingest can&#x27;t be reached" in shown
