from pathlib import Path
from types import SimpleNamespace

from shared.prompt import MAX_EXCERPT_CHARACTERS, build_messages, choose_decoding, read_topic
from shared.voice import load_voice

VOICE = load_voice(Path(__file__).parents[3] / "content" / "voice.toml")


def test_the_prompt_carries_voice_topic_and_context_in_order() -> None:
    chunks = [
        SimpleNamespace(title="Assets", text="An asset is data."),
        SimpleNamespace(title="Hooks", text="x" * 9999),
    ]
    system, user = build_messages(VOICE, "  assets {now} ", chunks)
    assert VOICE.format.rules in system["content"] and VOICE.opener in user["content"]
    assert user["content"].startswith("Facts:\nAssets: An asset is data.\n\nHooks: xx")
    assert "Topic: assets {now}\n" in user["content"]
    assert (
        "x" * MAX_EXCERPT_CHARACTERS in user["content"]
        and "x" * (MAX_EXCERPT_CHARACTERS + 1) not in user["content"]
    )


def test_a_topic_is_read_back_even_where_the_context_speaks_of_topics() -> None:
    chunks = [SimpleNamespace(title="Kafka", text="Topic: a name\nfor a log")]
    assert read_topic(build_messages(VOICE, "assets now", chunks)) == "assets now"


def test_no_context_is_said_rather_than_left_blank() -> None:
    assert "(nothing found)" in build_messages(VOICE, "assets", [])[1]["content"]


def test_an_answer_has_room_for_the_longest_post() -> None:
    assert choose_decoding(VOICE).max_tokens > VOICE.max_words * 1.5
