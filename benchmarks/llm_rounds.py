"""The rounds of the LLM server's benchmark, the same for it and for the bare library: posts alone, eight, an exam.

It knows neither: it is given a function that asks.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.llm_questions import build_exam, build_exam_post, build_post, build_prompts

RUNS: Final = 3
EIGHT: Final = 8
EXAM_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Answer:
    """Seconds to the end and to the first text, and tokens."""

    seconds: float
    first: float
    prompt_tokens: int
    completion_tokens: int


Ask = Callable[[Mapping[str, Any]], Answer]


def run_rounds(ask: Ask) -> dict[str, float]:
    """All rounds; medians of three. Seconds, or tokens a second."""
    prompts = build_prompts()
    ask(build_post(next(prompts)))  # the first one warms up
    alone = [ask(build_post(next(prompts))) for _ in range(RUNS)]
    rates = []
    for _ in range(RUNS):
        bodies = [build_post(next(prompts)) for _ in range(EIGHT)]
        seconds, answers = _ask_all(ask, bodies, EIGHT)
        rates.append(sum(answer.completion_tokens for answer in answers) / seconds)
    exams, exam_tokens = [], []
    for turn in range(RUNS):
        posts, decoding = build_exam(turn)
        seconds, answers = _ask_all(ask, [build_exam_post(post, decoding) for post in posts], EXAM_AT_ONCE)
        exams.append(seconds)
        exam_tokens.append(sum(answer.completion_tokens for answer in answers))
    return {
        "prompt_tokens": statistics.median(answer.prompt_tokens for answer in alone),
        "answer_tokens": statistics.median(answer.completion_tokens for answer in alone),
        "post": statistics.median(answer.seconds for answer in alone),
        "first": statistics.median(answer.first for answer in alone),
        "stream_rate": statistics.median(
            (answer.completion_tokens - 1) / (answer.seconds - answer.first) for answer in alone
        ),
        "alone_rate": statistics.median(answer.completion_tokens / answer.seconds for answer in alone),
        "eight_rate": statistics.median(rates),
        "exam": statistics.median(exams),
        "exam_tokens": statistics.median(exam_tokens),
    }


def measure(action: Callable[[], Any]) -> float:
    """Median seconds of three, after one that warms up."""
    action()
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _ask_all(ask: Ask, bodies: list[dict[str, object]], at_once: int) -> tuple[float, list[Answer]]:
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(ask, bodies))
    return time.perf_counter() - started, answers
