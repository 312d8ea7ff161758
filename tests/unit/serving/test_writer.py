import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from deployments.serving.errors import BadRequest, KnowledgeEmpty, NothingAnswers, Unavailable, UnknownModel
from deployments.serving.writer import MAX_TOPIC_CHARACTERS, Finished, Piece, Sources
from shared import contracts
from shared.ledger.models import Post, PostSource
from shared.llm.port import LlmError
from shared.prompt import PROMPT_VERSION
from shared.vectors.port import VectorStoreError
from tests.fake_desk import BASE_ANSWER, DOCUMENTS, TUNED_ANSWER, FakeWorld, add_model, make_world
from tests.json_rows import read_rows


def write(world: FakeWorld, topic: str = "asset event", model: str = "champion") -> Finished:
    last = list(world.desk.writer.write(topic, model))[-1]
    assert isinstance(last, Finished)
    return last


def count_posts(world: FakeWorld) -> int:
    with world.sessions() as session:
        return session.scalar(select(func.count()).select_from(Post)) or 0


def read_events(world: FakeWorld) -> list[dict[str, Any]]:
    path = world.spool / "serving" / "events.jsonl"
    return list(read_rows(path)) if path.exists() else []


def test_events_come_as_sources_then_pieces_then_the_post(world: FakeWorld) -> None:
    events = list(world.desk.writer.write("asset event", "base"))
    assert isinstance(events[0], Sources)
    assert all(isinstance(event, Piece) for event in events[1:-1])
    assert isinstance(events[-1], Finished)
    assert "".join(event.text for event in events if isinstance(event, Piece)) == BASE_ANSWER


def test_post_is_recorded_with_model_prompt_and_sources(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    post_id = write(world).post.id
    with world.sessions() as session:
        post = session.get_one(Post, post_id)
        sources = list(session.scalars(select(PostSource).where(PostSource.post_id == post_id)))
    assert post.text == TUNED_ANSWER
    assert (post.model_name, post.model_version, post.model_alias) == ("ghostwriter", "1", "champion")
    assert post.model_id == "tuned-1"
    assert post.prompt_version == PROMPT_VERSION
    assert post.author == "admin"
    assert post.seconds >= 0
    assert len(sources) == world.desk.read_voice().retrieval.top_k
    best = min(sources, key=lambda source: source.rank)
    assert best.uri == contracts.document_uri("guides", "assets.md")
    assert best.chunk_id == contracts.chunk_id(best.uri, best.content_hash, 0)
    assert best.text == DOCUMENTS["assets.md"][1]


def test_prompt_holds_the_retrieved_text(world: FakeWorld) -> None:
    write(world)
    _, messages = world.llm.chats[-1]
    assert DOCUMENTS["assets.md"][1] in messages[-1]["content"]


def test_without_a_champion_the_base_model_writes_and_says_so(world: FakeWorld) -> None:
    finished = write(world)
    assert (finished.post.model_version, finished.post.model_alias) == (None, "base")
    assert "no champion" in finished.model.note


def test_model_can_be_chosen_by_alias_and_by_version(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    add_model(world, 2, "challenger")
    assert write(world, model="challenger").post.model_version == "2"
    assert write(world, model="base").post.model_version is None
    by_number = write(world, model="1").post
    assert (by_number.model_version, by_number.model_alias) == ("1", "champion")


@pytest.mark.parametrize("model", ["grandmaster", "7", "challenger"])
def test_unknown_model_names_what_there_is(world: FakeWorld, model: str) -> None:
    add_model(world, 1, "champion")
    with pytest.raises(UnknownModel, match="champion"):
        write(world, model=model)
    assert count_posts(world) == 0


@pytest.mark.parametrize("topic", ["", "  \n ", "x" * (MAX_TOPIC_CHARACTERS + 1), "nul\0byte"])
def test_bad_topic_is_refused_before_anything_runs(world: FakeWorld, topic: str) -> None:
    with pytest.raises(BadRequest):
        write(world, topic)
    assert not world.llm.chats
    assert not read_events(world)


def test_empty_knowledge_base_says_how_to_fill_it(tmp_path: Any) -> None:
    world = make_world(tmp_path, documents={})
    with pytest.raises(KnowledgeEmpty, match="Sync now"):
        write(world)
    assert not world.llm.chats
    assert count_posts(world) == 0


STRICT = "[rerank]\nleast_relevance = 0.5\n"  # the fake's logit is above zero where a word is shared


def test_a_topic_that_nothing_answers_is_not_written_and_the_nearest_is_named(world: FakeWorld) -> None:
    world.voice_file.with_name("retrieval.toml").write_text(STRICT)
    with pytest.raises(NothingAnswers, match=r"Nothing in the knowledge answers this topic\..*nearest is “"):
        write(world, "chocolate cake")
    assert not world.llm.chats
    assert count_posts(world) == 0
    assert [event["eventType"] for event in read_events(world)] == ["START", "FAIL"]
    assert write(world, "asset event").post.sources


def test_it_is_written_all_the_same_where_that_is_wanted_and_says_so(world: FakeWorld) -> None:
    world.voice_file.with_name("retrieval.toml").write_text(STRICT)
    events = list(world.desk.writer.write("chocolate cake", "base", allow_unsupported=True))
    first, last = events[0], events[-1]
    assert isinstance(first, Sources) and isinstance(last, Finished)
    assert "Nothing in the knowledge answers" in first.model.note
    assert first.model.note == last.model.note
    assert all(source.score < 0.5 for source in last.post.sources)
    supported = list(world.desk.writer.write("asset event", "base", allow_unsupported=True))[-1]
    assert isinstance(supported, Finished)
    assert "Nothing" not in supported.model.note
    assert supported.post.sources[0].score > 0.5


def test_settings_of_the_search_that_cannot_be_used_are_named(world: FakeWorld) -> None:
    world.voice_file.with_name("retrieval.toml").write_text("[rerank]\nmodle = 1\n")
    with pytest.raises(Unavailable, match="did you mean model"):
        write(world)


def test_interrupted_stream_records_nothing_and_stops_the_model(world: FakeWorld) -> None:
    events = world.desk.writer.write("asset event", "base")
    next(events)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert count_posts(world) == 0
    assert [event["eventType"] for event in read_events(world)] == ["START", "FAIL"]


def test_model_that_fails_half_way_records_nothing(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: Any, **__: Any) -> Iterator[str]:
        yield "Field note: "
        raise LlmError("the server went away")

    monkeypatch.setattr(world.llm, "stream_chat", break_off)
    with pytest.raises(Unavailable, match="the server went away"):
        write(world)
    assert count_posts(world) == 0
    assert read_events(world)[-1]["eventType"] == "FAIL"


def test_model_that_says_nothing_is_an_error(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.llm, "stream_chat", lambda *_, **__: (piece for piece in ["  "]))
    with pytest.raises(Unavailable, match="empty text"):
        write(world)
    assert count_posts(world) == 0


def test_store_that_is_down_is_named(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise VectorStoreError("Weaviate can't be reached")

    monkeypatch.setattr(world.store, "search", fail)
    with pytest.raises(Unavailable, match="Weaviate can't be reached"):
        write(world)


def test_registry_down_goes_on_with_the_last_champion_and_says_so(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    write(world)
    world.registry.down = True  # type: ignore[attr-defined]
    finished = write(world)
    assert finished.post.model_version == "1"
    assert "registry" in finished.model.note
    with pytest.raises(Unavailable, match="'base'"):
        write(world, model="challenger")


def test_registry_down_from_the_start_never_guesses(world: FakeWorld) -> None:
    world.registry.down = True  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="'base'"):
        write(world)
    assert write(world, model="base").post.model_alias == "base"


def test_a_champion_that_the_provider_has_lost_counts_as_none_until_it_is_back(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    text = world.llm.answers.pop("tuned-1")  # another provider, or the server lost its state
    finished = write(world)
    assert (finished.post.model_version, finished.post.text) == (None, BASE_ANSWER)
    assert "doesn't know version 1" in finished.model.note
    assert world.desk.writer.champion_is_lost
    with pytest.raises(UnknownModel, match="tuned-1"):
        write(world, model="1")
    world.llm.answers["tuned-1"] = text
    finished = write(world)
    assert (finished.post.model_version, finished.model.note) == ("1", "")
    assert not world.desk.writer.champion_is_lost


def test_a_champion_lost_while_the_registry_is_down_counts_as_none_too(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    write(world)
    world.registry.down = True  # type: ignore[attr-defined]
    del world.llm.answers["tuned-1"]
    assert write(world).post.model_version is None


def test_a_provider_that_cannot_say_dethrones_nobody(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(world, 1, "champion")

    def fail() -> list[str]:
        raise LlmError("it has no list of models")

    monkeypatch.setattr(world.llm, "list_models", fail)
    finished = write(world)
    assert (finished.post.model_version, finished.model.note) == ("1", "")


def test_lineage_names_inputs_outputs_and_versions_but_no_text(world: FakeWorld) -> None:
    add_model(world, 1, "champion")
    post = write(world, "asset event wakes").post
    start, complete = read_events(world)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["job"]["namespace"] == contracts.SERVING_NAMESPACE
    assert complete["job"]["name"] == "write_post"
    for event in (start, complete):
        inputs = {(item["namespace"], item["name"]) for item in event["inputs"]}
        assert inputs == {tuple(contracts.CHUNKS), tuple(contracts.MODEL)}
        assert [(item["namespace"], item["name"]) for item in event["outputs"]] == [tuple(contracts.POSTS)]
    assert complete["outputs"][0]["facets"]["version"]["datasetVersion"] == post.id
    written = json.dumps([start, complete])
    assert "asset event wakes" not in written
    assert post.text not in written


def test_post_is_kept_although_the_spool_is_broken(world: FakeWorld) -> None:
    world.spool.mkdir(parents=True, exist_ok=True)
    (world.spool / "serving").write_text("a file where the folder should be")
    write(world)
    assert count_posts(world) == 1


def test_the_voice_is_that_of_the_moment(world: FakeWorld) -> None:
    """Training reads it afresh too: the two must not disagree until someone restarts the desk."""
    write(world)
    before = world.llm.chats[-1][1][0]["content"]
    world.voice_file.write_text(
        world.voice_file.read_text().replace("a platform engineer on call", "a baker")
    )
    write(world)
    after = world.llm.chats[-1][1][0]["content"]
    assert "platform engineer" in before and "a baker" in after
    world.voice_file.write_text("[voice")
    with pytest.raises(Unavailable, match="not valid TOML"):
        write(world)
