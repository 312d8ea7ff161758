from pathlib import Path
from types import SimpleNamespace

from shared.llm.port import Decoding
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


def test_a_prompt_is_known_to_the_last_character() -> None:
    """A model is trained on it: a space more, and serving asks something else than was learnt."""
    voice = VOICE.model_copy(
        update={
            "speaker": "an engineer", "description": "calm", "language": "German", "opener": "Tip:",
            "min_words": 5, "max_words": 20, "hashtags": ("#Tips", "#Airflow"),
            "format": VOICE.format.model_copy(update={"rules": "One hook."}),
        }
    )  # fmt: skip
    chunks = [SimpleNamespace(title="A", text="x" * 600), SimpleNamespace(title="B", text="y" * 601)]
    assert build_messages(voice, " assets\n", chunks) == [
        {
            "role": "system",
            "content": "You are an engineer: calm. You write short posts in German. One hook.",
        },
        {
            "role": "user",
            "content": f"Facts:\nA: {'x' * 600}\n\nB: {'y' * 600}\n\nTopic: assets\n\n"
            'Write the post in 5 to 20 words. Begin with "Tip:" and end with #Tips #Airflow.',
        },
    ]
    assert build_messages(voice, "assets", [])[1]["content"].startswith("Facts:\n(nothing found)\n\nTopic: ")


def test_messages_of_another_kind_have_no_topic() -> None:
    assert read_topic([{"role": "user", "content": "What about Topic: assets"}]) == ""
    told = [
        {"role": "user", "content": "Topic: one"},
        {"role": "user", "content": "Topic:  two \nTopic: \u2003three "},
    ]
    assert read_topic(told) == "three"


def test_an_answer_has_room_for_the_longest_post() -> None:
    assert choose_decoding(VOICE) == Decoding(VOICE.max_words * 2 + 40, frequency_penalty=0.3)
