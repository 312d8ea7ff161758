from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from deployments.serving.audit import audit_post
from deployments.serving.errors import NotFound
from deployments.serving.writer import Finished
from shared.ledger.models import DocumentVersion
from tests.fake_desk import FakeWorld, add_model


def write(world: FakeWorld, model: str = "champion") -> str:
    last = list(world.desk.writer.write("asset event", model))[-1]
    assert isinstance(last, Finished)
    return last.post.id


def test_chain_reaches_examples_jobs_and_ingest_runs(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    post_id = write(world)
    with world.sessions() as session:
        audit = audit_post(session, world.registry, post_id)
    assert audit["post_id"] == post_id
    assert audit["topic"] == "asset event"
    model = audit["model"]
    assert (model["version"], model["job_id"], model["run_id"]) == ("1", "ftjob-1", "run-1")
    assert model["training_set"] == f"{1:064x}"
    assert model["examples"] == [{"path": "train/assets.md", "split": "train"}]
    assert [source["ingest_run"] for source in audit["sources"]] == ["scheduled__1"] * len(audit["sources"])
    assert all(source["current"] for source in audit["sources"])
    assert audit["notes"] == []


def test_superseded_document_is_no_longer_current(world: FakeWorld) -> None:
    post_id = write(world, "base")
    with world.sessions.begin() as session:
        session.execute(
            update(DocumentVersion)
            .where(DocumentVersion.uri.endswith("assets.md"))
            .values(superseded_at=datetime.now(UTC))
        )
    with world.sessions() as session:
        audit = audit_post(session, world.registry, post_id)
    by_name = {source["uri"].rsplit("/", 1)[-1]: source for source in audit["sources"]}
    assert by_name["assets.md"]["current"] is False
    assert by_name["assets.md"]["ingest_run"] == "scheduled__1"
    assert all(source["current"] for name, source in by_name.items() if name != "assets.md")


def test_base_model_has_no_training_behind_it(world: FakeWorld) -> None:
    post_id = write(world, "base")
    with world.sessions() as session:
        audit = audit_post(session, world.registry, post_id)
    assert audit["model"]["version"] is None
    assert audit["model"]["training_set"] is None
    assert "base" in audit["notes"][0]


def test_registry_down_leaves_the_chain_of_the_ledger(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    post_id = write(world)
    world.registry.down = True  # type: ignore[attr-defined]
    with world.sessions() as session:
        audit = audit_post(session, world.registry, post_id)
    assert (audit["model"]["job_id"], audit["model"]["run_id"]) == ("ftjob-1", "run-1")
    assert "registry" in audit["notes"][0]


def test_unknown_post(world: FakeWorld) -> None:
    with world.sessions() as session, pytest.raises(NotFound, match="no-such-post"):
        audit_post(session, world.registry, "no-such-post")
