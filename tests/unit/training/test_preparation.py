"""From examples to the bytes of a training set, and what is found wrong with them: rules without I/O."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from deployments.training.preparation import (
    ContextItem,
    Problem,
    build_training_set,
    count_splits,
    digest_example,
    find_near_duplicates,
    find_too_long,
)
from shared.examples import SPLITS, Example, Split
from shared.prompt import build_messages
from shared.voice import Voice

ITEM = ContextItem("id", "uri", "hash", "Guide", "ein Fäktum")
ADVICE = "shorten it, or raise the model's limit (docs/adapting.md)"


def write(name: str, text: str, split: Split = "train", topic: str = "assets") -> Example:
    return Example(topic, text, Path(f"examples/{split}/{name}.md"), split)


def test_the_name_under_which_a_context_is_pinned_never_changes() -> None:
    """Another one would pin another context to every example, and make another training set of the same examples."""
    expected = "a6259724fafba0ce94411bf614618873233a64c57a5eb06de9658ced0e70f743"
    assert digest_example("assets", "Fäkt") == expected == sha256("assets\0Fäkt".encode()).hexdigest()
    assert digest_example("a", "sset") != digest_example("as", "set")


def test_the_bytes_of_a_training_set_are_known(voice: Voice) -> None:
    examples = [
        write("b", "zwei"),
        write("a", "eins"),
        write("a", "drei", "holdout"),
        write("c", "vier", "validation"),
    ]
    contexts = {digest_example(each.topic, each.text): [ITEM] for each in examples}
    built = build_training_set(examples, contexts, voice)
    for split, posts in {"train": ["eins", "zwei"], "validation": ["vier"], "holdout": ["drei"]}.items():
        conversations = [json.loads(line)["messages"] for line in built.files[split].decode().splitlines()]
        prompt = build_messages(voice, "assets", [ITEM])
        assert conversations == [[*prompt, {"role": "assistant", "content": post}] for post in posts]
    assert all(content.endswith(b"}\n") and b"\n\n" not in content for content in built.files.values())
    parts = [f"{split}\0{len(built.files[split])}\0".encode() + built.files[split] for split in SPLITS]
    assert built.digest == sha256(b"".join(parts)).hexdigest()
    assert build_training_set(examples[::-1], contexts, voice) == built


def test_the_same_lines_in_another_split_are_another_set(voice: Voice) -> None:
    digests = set()
    for split in ("train", "validation", "holdout"):
        example = write("a", "eins", split)
        digests.add(build_training_set([example], {digest_example("assets", "eins"): [ITEM]}, voice).digest)
    assert len(digests) == 3


def test_splits_are_counted() -> None:
    assert count_splits([]) == {"train": 0, "validation": 0, "holdout": 0}
    examples = [write("a", "x"), write("b", "x", "holdout"), write("c", "x", "holdout")]
    assert count_splits(examples) == {"train": 1, "validation": 0, "holdout": 2}


def say(*words: str) -> str:
    return " ".join(words)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        # Runs of three words: three of five are just enough.
        pytest.param("a b c d e f g", "a b c d e", True, id="three of five"),
        pytest.param("a b c d e f g h i j k l m n", "a b c d e f g h i", False, id="seven of twelve"),
        pytest.param("A b, C! d?", "a B c d", True, id="case and punctuation do not count"),
        pytest.param("a b", "a b", True, id="fewer than three words are one run"),
        pytest.param("a b", "a c", False, id="short and different"),
        pytest.param("a b c", "a b d", False, id="one run each"),
    ],
)
def test_two_posts_of_different_splits_that_share_three_runs_of_five_are_the_same(
    first: str, second: str, same: bool
) -> None:
    examples = [write("one", first), write("two", second, "holdout")]
    problem = Problem(
        "examples/holdout/two.md", 1,
        "nearly the same post as examples/train/one.md in another set; change or remove one of the two",
    )  # fmt: skip
    assert find_near_duplicates(examples) == ([problem] if same else [])
    assert find_near_duplicates([write("one", first), write("two", second)]) == []  # of one split


def test_each_pair_is_named_once_in_the_order_of_the_examples() -> None:
    text = "a b c d e f"
    examples = [write("1", text), write("x", "p q r s t"), write("2", text), write("3", text, "holdout"),
                write("4", text, "validation")]  # fmt: skip
    found = [(problem.path, problem.message.split()[5]) for problem in find_near_duplicates(examples)]
    assert found == [
        ("examples/holdout/3.md", "examples/train/1.md"),
        ("examples/holdout/3.md", "examples/train/2.md"),
        ("examples/validation/4.md", "examples/train/1.md"),
        ("examples/validation/4.md", "examples/train/2.md"),
        ("examples/validation/4.md", "examples/holdout/3.md"),
    ]
    assert str(find_near_duplicates(examples)[0]).startswith(
        "examples/holdout/3.md:1: nearly the same post as"
    )


def test_what_the_model_cannot_take_is_named_with_both_numbers() -> None:
    """The limit itself is fine; a train example needs no room for an answer, so its prompt counts for nothing."""
    examples = [
        write("fits", "x"),
        write("long", "x"),
        write("full", "x", "holdout"),
        write("no-room", "x", "holdout"),
    ]
    prompts = {examples[2].path: 60, examples[3].path: 61}
    assert find_too_long(examples, [100, 101, 100, 70], prompts, 40, 100) == [
        Problem("examples/train/long.md", 1, f"101 tokens with its prompt, but the model takes 100; {ADVICE}"),
        Problem(
            "examples/holdout/no-room.md", 1,
            f"its prompt has 61 tokens and a post may have 40, but the model takes 100; {ADVICE}",
        ),
    ]  # fmt: skip
    assert find_too_long(examples[:1], [100], {}, 100, 100) == []
    with pytest.raises(ValueError):
        find_too_long(examples, [1], {}, 40, 100)
