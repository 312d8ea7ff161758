"""`make bench-decision`: how often the promotion rule errs, and what it can show. Writes docs/decision-rates.md.

Scores are drawn, so the truth is known. It knows no model and no stack.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deployments.training.decision import CONFIDENCE, LEVEL, MINIMUM_PAIRS, RESAMPLES, decide, level_of

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "decision-rates.md"
BEGIN, END = "<!-- measured by make bench-decision -->", "<!-- end of what is measured -->"
SETS = 20_000
PAIRS = (5, 6, 8, 10, 15, 20)
EFFECTS = (0.5, 0.8, 1.0)
NUMBERS = (1, 2, 5, 10)
IN_A_ROW = 10
SEEN = 0.8
"""A holdout "can show" a difference that is found in so many of the cases."""
_CHUNK = 500
_SEED = 7

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def draw_our_scores(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Scores as `scoring` makes them: half the form in quarters, half a likeness around a third."""
    form = rng.choice([1.0, 0.75, 0.5, 0.25], p=[0.4, 0.4, 0.15, 0.05], size=shape)
    return 0.5 * form + 0.5 * rng.normal(0.33, 0.06, size=shape)


def draw_rare_losses(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A little better nearly always, very much worse in one of twenty: no better on the whole."""
    return rng.normal(0.25, 1, size=shape) - 5 * (rng.random(shape) < 0.05)


EQUAL: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "our kind of scores": lambda rng, shape: draw_our_scores(rng, shape) - draw_our_scores(rng, shape),
    "skewed to the left": lambda rng, shape: 1 - rng.exponential(size=shape),
    "rare big losses": draw_rare_losses,
}
"""Differences with a mean of zero: whoever is promoted on them is promoted by chance."""


def find_p(differences: np.ndarray) -> np.ndarray:
    """`decision.sign_flip_p` of each row, exact, many at once: the sums of both halves of the pairs are met."""
    wanted = differences.sum(axis=1) - 1e-12 * np.abs(differences).sum(axis=1)
    middle = differences.shape[1] // 2
    left, right = _flip(differences[:, :middle]), np.sort(_flip(differences[:, middle:]), axis=1)
    below = [np.searchsorted(*row).mean() for row in zip(right, wanted[:, None] - left, strict=True)]
    return 1 - np.array(below) / right.shape[1]


def bootstrap_promotes(differences: np.ndarray) -> np.ndarray:
    """What decided before, for each row: whether its percentile bootstrap interval lies above zero."""
    pairs = differences.shape[1]
    weights = np.random.default_rng(_SEED).multinomial(pairs, [1 / pairs] * pairs, RESAMPLES).T.astype("f4")
    rows = [
        (differences[start : start + _CHUNK].astype("f4") @ weights <= 0).mean(axis=1) < (1 - CONFIDENCE) / 2
        for start in range(0, len(differences), _CHUNK)
    ]
    return np.concatenate(rows)


def measure_errors(sets: int) -> list[list[str]]:
    """Promotions of an equal challenger, the first on its holdout: before, and now."""
    rows = []
    for pairs in PAIRS:
        row = [str(pairs)]
        for draw in EQUAL.values():
            differences = draw(np.random.default_rng(_SEED + pairs), (sets, pairs))
            _check(differences[:5])
            row.append(
                f"{_share(bootstrap_promotes(differences))} / {_share(_promote(differences, find_p(differences)))}"
            )
        rows.append(row)
    return rows


def measure_power(sets: int) -> list[list[str]]:
    """Promotions of a challenger that is better by so many standard deviations of the differences: before, and now."""
    rows = []
    for pairs in PAIRS:
        noise = np.random.default_rng(1000 + pairs).normal(size=(sets, pairs))
        row = [str(pairs)]
        for effect in EFFECTS:
            shifted = noise + effect
            row.append(
                f"{_share(bootstrap_promotes(shifted))} / {_share(_promote(shifted, find_p(shifted)))}"
            )
        rows.append(row)
    return rows


def measure_rows(sets: int) -> list[list[str]]:
    """At least one promotion among ten equal challengers that meet one champion on one holdout."""
    rows = []
    for pairs in (10, 20):
        rng = np.random.default_rng(_SEED * pairs)
        champion = draw_our_scores(rng, (sets, pairs))
        any_before, any_fixed, any_now = (np.zeros(sets, bool) for _ in range(3))
        for number in range(1, IN_A_ROW + 1):
            differences = draw_our_scores(rng, (sets, pairs)) - champion
            p_values = find_p(differences)
            any_before |= bootstrap_promotes(differences)
            any_fixed |= _promote(differences, p_values)
            any_now |= _promote(differences, p_values, number)
        rows.append([str(pairs), _share(any_before), _share(any_fixed), _share(any_now)])
    return rows


def measure_smallest(sets: int) -> list[list[str]]:
    """The smallest difference, in standard deviations, that is found four times in five."""
    rows = []
    for pairs in (6, 10, 20):
        noise = np.random.default_rng(_SEED + 100 * pairs).normal(size=(sets, pairs))
        smallest: dict[int, float] = {}
        for effect in np.arange(0.4, 3.01, 0.05):
            p_values = find_p(noise + effect)
            for number in NUMBERS:
                if number not in smallest and _promote(noise, p_values, number).mean() >= SEEN:
                    smallest[number] = float(effect)
            if len(smallest) == len(NUMBERS):
                break
        rows.append([str(pairs), *(f"{smallest[n]:.2f}" if n in smallest else "none" for n in NUMBERS)])
    return rows


def describe_rule() -> str:
    """The rule that the figures are of; a test compares it with the document's."""
    levels = ", ".join(f"{level_of(number):.2g}" for number in NUMBERS)
    numbers = ", ".join(str(number) for number in NUMBERS)
    return (
        f"The rule: p of the exact sign-flip test at most {LEVEL:g} for the first challenger on a holdout "
        f"({levels} for number {numbers}), at least {MINIMUM_PAIRS} pairs."
    )


def build_tables(sets: int) -> str:
    """All that is measured, in Markdown."""
    before_now = "Each cell: the percentile bootstrap that decided before / the rule that decides now."
    return "\n\n".join(
        [
            f"{describe_rule()} {sets} drawn sets a cell.",
            f"**An equal challenger is promoted** (should be at most {LEVEL:.1%}). {before_now}",
            _table(["pairs", *EQUAL], measure_errors(sets)),
            f"**A better challenger is promoted**, by its lead in standard deviations of the differences. {before_now}",
            _table(["pairs", *(f"{effect:g}" for effect in EFFECTS)], measure_power(sets)),
            f"**At least one of {IN_A_ROW} equal challengers in a row is promoted** on one holdout, with our scores.",
            _table(
                ["pairs", "bootstrap, before", f"p at most {LEVEL:g} for each", "the rule now"],
                measure_rows(sets),
            ),
            f"**The smallest lead that is seen {SEEN:.0%} of the time**, in standard deviations of the differences, "
            "by which challenger on the holdout it is.",
            _table(["pairs", *(f"number {number}" for number in NUMBERS)], measure_smallest(sets)),
        ]
    )


def write_tables(document: Path, sets: int) -> None:
    """Replace what stands between the document's markers."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{build_tables(sets)}\n{END}{after}", encoding="utf-8")


def _promote(differences: np.ndarray, p_values: np.ndarray, number: int = 1) -> np.ndarray:
    return (p_values <= level_of(number)) & (differences.shape[1] >= MINIMUM_PAIRS)


def _flip(differences: np.ndarray) -> np.ndarray:
    """The sums of each row under every flip of signs."""
    pairs = differences.shape[1]
    signs = 1.0 - 2.0 * (np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1)
    return differences @ signs.T


def _check(differences: np.ndarray) -> None:
    """The figures are worth nothing if they are not those of the rule."""
    for row, p_value in zip(differences, find_p(differences), strict=True):
        decision = decide([0.0] * len(row), list(row))
        expected = len(row) >= MINIMUM_PAIRS and p_value <= LEVEL
        if decision.promote != expected or not (
            math.isnan(decision.p_value) or math.isclose(decision.p_value, p_value)
        ):
            raise AssertionError(f"the rule says {decision}, the measurement p {p_value}")


def _share(hits: np.ndarray) -> str:
    return f"{100 * hits.mean():.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    write_tables(DOCUMENT, SETS)
