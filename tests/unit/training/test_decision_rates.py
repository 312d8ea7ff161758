"""The program that measures the promotion rule: it measures that rule and no other, and the document is of today's."""

from pathlib import Path

import numpy
import pytest

from benchmarks import decision_rates
from deployments.training.decision import decide, sign_flip_p


def test_it_measures_the_rule_that_decides() -> None:
    differences = numpy.random.default_rng(3).normal(0.3, 1, size=(30, 9))
    expected = [sign_flip_p(list(row)) for row in differences]
    assert decision_rates.find_p(differences) == pytest.approx(expected)


def test_it_measures_the_interval_that_decided_before() -> None:
    differences = numpy.random.default_rng(4).normal(0.5, 1, size=(12, 9))
    lows = [decide([0.0] * 9, list(row)).low for row in differences]
    clear = [abs(low) > 0.05 for low in lows]  # it draws other resamples: near zero the two may differ
    assert sum(clear) > 8
    found = decision_rates.bootstrap_promotes(differences)
    assert list(found[clear]) == [low > 0 for low in lows if abs(low) > 0.05]


@pytest.mark.parametrize("kind", decision_rates.EQUAL)
def test_its_equal_challengers_are_no_better(kind: str) -> None:
    drawn = decision_rates.EQUAL[kind](numpy.random.default_rng(5), (20_000, 10))
    assert drawn.mean() == pytest.approx(0, abs=0.02)


def test_it_writes_between_the_markers_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_rates, "build_tables", lambda sets: f"measured on {sets}")
    document = tmp_path / "rates.md"
    document.write_text(f"before\n{decision_rates.BEGIN}\nold\n{decision_rates.END}\nafter\n")
    decision_rates.write_tables(document, 3)
    assert document.read_text() == (
        f"before\n{decision_rates.BEGIN}\nmeasured on 3\n{decision_rates.END}\nafter\n"
    )


def test_the_document_is_of_the_rule_as_it_is() -> None:
    """Whoever changes the rule measures it anew: make bench-decision."""
    assert decision_rates.describe_rule() in decision_rates.DOCUMENT.read_text(encoding="utf-8")
