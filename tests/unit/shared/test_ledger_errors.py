"""What a failing statement may say, and what no log may hold."""

import traceback

import pytest
from sqlalchemy.exc import SQLAlchemyError

from shared.ledger.errors import cut_values
from shared.ledger.models import Base, DocumentVersion
from shared.ledger.sessions import create_sessions

STATEMENT = "[SQL: INSERT INTO t (title) VALUES (%(title)s)]"
PARAMETERS = "[parameters: {'title': 'Secret [a] title', 'more': 'x'}]"
BACKGROUND = "(Background on this error at: https://sqlalche.me/e/21/gkpj)"
UNIQUE = '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "current"'


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"{UNIQUE}\n{STATEMENT}\n{PARAMETERS}\n{BACKGROUND}", [UNIQUE, BACKGROUND]),
        (f"{UNIQUE}\nDETAIL:  Key (title)=(Secret\n\ntitle) already exists.\n\n{STATEMENT}", [UNIQUE]),
        (f"{UNIQUE}\nDETAIL:  Key (title)=(Secret) exists.\n\n\nThe above exception was", ["The above exception was"]),
        (f"{UNIQUE}\nDETAIL:  Secret\n\n\nDuring handling of", [UNIQUE, "During handling of"]),
        ("DETAIL:  Failing row contains (3, Secret title, null).", []),
        ("null value\nDETAIL:  Failing row contains (Secret).\nHINT:  Secret", ["null value"]),
        ('bad\nCONTEXT:  COPY t, line 1, column title: "Secret"', ["bad"]),
        ("bad\nQUERY:  SELECT 'Secret'", ["bad"]),
        ("syntax error\nLINE 12: ... VALUES ('Secret', 9\n      ^\n", ["syntax error"]),
        (f"{STATEMENT[:-1]}, 'Secret\n\ntext]\n', 1)]\n{BACKGROUND}", [BACKGROUND]),
        ('(x) invalid input syntax for type integer: "Secret" \n\n"Secret"', ["input syntax for type integer: "]),
        ('malformed array literal: "Secret"', ["malformed array literal: "]),
        (f"  | {UNIQUE}\n  | {PARAMETERS}\n  | {BACKGROUND}\n  +----", [UNIQUE, BACKGROUND, "+----"]),
        (f"  | bad\n  | DETAIL:  Secret\n  | {BACKGROUND}", ["| bad", BACKGROUND]),
        (repr(f"{UNIQUE}\nDETAIL:  Secret\n{BACKGROUND}"), ["UniqueViolation", BACKGROUND]),
        (repr(f"{UNIQUE}\n{PARAMETERS}\n{BACKGROUND}"), ["UniqueViolation", BACKGROUND]),
        (
            f"{UNIQUE}\n{PARAMETERS}\n{BACKGROUND}\nand\n{UNIQUE}\n{PARAMETERS}\n{BACKGROUND}\nend",
            [f"{BACKGROUND}\nand\n{UNIQUE}", f"{BACKGROUND}\nend"],
        ),
    ],
)  # fmt: skip
def test_values_are_cut_and_the_rest_stays(text: str, kept: list[str]) -> None:
    assert "ecret" in text
    cleaned = cut_values(text)
    assert "ecret" not in cleaned
    assert "[values cut]" in cleaned
    for part in kept:
        assert part in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ValueError: the DETAIL: is on LINE 3: of the file",
        'Line 4: messages[0].role must be one of "a", "b"',
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: "quoted": "text"',
        UNIQUE,
        f"{UNIQUE}\n{BACKGROUND}",
    ],
)
def test_other_texts_are_left_alone(text: str) -> None:
    assert cut_values(text) == text


def test_a_long_text_takes_no_longer_for_it() -> None:
    for piece in ("[SQL: x ", "\n\nDETAIL:  ", " " * 50, "invalid input: ", "\\n" * 30):
        assert len(cut_values(piece * 20_000)) <= len(piece) * 20_000 + 20


def test_a_failing_insert_does_not_say_what_it_would_have_written() -> None:
    sessions = create_sessions("sqlite://")
    Base.metadata.create_all(sessions.kw["bind"])
    row = DocumentVersion(uri="x", source="a", title="Secret title", size=1, chunks=1, ingest_run="r")
    with pytest.raises(SQLAlchemyError) as caught, sessions.begin() as session:
        session.add(row)
    text = "".join(traceback.format_exception(caught.value))
    assert "content_hash" in text and "Secret" not in text
