"""How good a post is: half its form, half its likeness to the post that the team wrote on the same topic.

It knows no model and draws no conclusion.
"""

from shared.form import form_score
from shared.voice import Voice


def score_post(text: str, reference: str, voice: Voice) -> float:
    """0..1: the mean of the form score and of chrF (character n-gram F-score, Popović 2015)."""
    from sacrebleu import sentence_chrf

    return 0.5 * form_score(text, voice).score + 0.5 * sentence_chrf(text, [reference]).score / 100
