"""What every engine must do, by role; real engines are checked by interpreters that may have no pytest."""

import itertools
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deployments.llm.engines.ports import (
    ChatEngine,
    ContextTooLongError,
    EmbeddingEngine,
    GenerationRequest,
    NotReadyError,
    Piece,
    RerankEngine,
    ScoringEngine,
    UnknownModelError,
    UnsupportedError,
    Usage,
)

CONTEXT, DEFAULT_MAX_TOKENS = 200, 40
WORDS = [f"w{number:02d}" for number in range(90)]
"""One token each; a prompt has as many tokens as words."""


class Subject(NamedTuple):
    """Loaded engines; the chat engine has CONTEXT and DEFAULT_MAX_TOKENS, and `adapter` is a folder that it takes."""

    engine: ChatEngine
    scoring: ScoringEngine
    embedding: EmbeddingEngine
    rerank: RerankEngine | None
    adapter: Path


def ask(engine: ChatEngine, words: int = 12, **wishes) -> GenerationRequest:
    """A greedy request whose prompt has so many words."""
    content = " ".join(itertools.islice(itertools.cycle(WORDS), words))
    messages = [{"role": "user", "content": content}]
    return GenerationRequest(**{"model": engine.chat_model, "prompt": messages, "temperature": 0.0, **wishes})


def answer(engine: ChatEngine, request: GenerationRequest) -> tuple[str, Piece]:
    """The whole text, and the last piece."""
    pieces = list(engine.generate(request))
    return "".join(piece.text for piece in pieces), pieces[-1]


def check_an_unknown_model_is_refused(subject: Subject) -> None:
    assert fails(UnknownModelError, lambda: subject.engine.generate(ask(subject.engine, model="nope")))


def check_a_fine_tuned_model_answers_until_it_is_forgotten(subject: Subject) -> None:
    engine, model = subject.engine, "ft:x"
    engine.register_adapter(model, subject.adapter)
    assert answer(engine, ask(engine, model=model))[1].finish_reason
    engine.forget_adapter(model)
    assert fails(UnknownModelError, lambda: engine.generate(ask(engine, model=model)))


def check_a_model_that_is_not_wanted_soon_answers_when_it_is_asked(subject: Subject) -> None:
    engine, model = subject.engine, "ft:later"
    engine.register_adapter(model, subject.adapter, soon=False)
    assert model in engine.adapters and answer(engine, ask(engine, model=model))[1].finish_reason
    engine.forget_adapter(model)


def check_what_does_not_fit_the_context_is_refused(subject: Subject) -> None:
    engine = subject.engine
    for words, wanted in ((CONTEXT, None), (CONTEXT + 5, 1), (150, 51)):
        error = fails(
            ContextTooLongError, lambda w=words, m=wanted: engine.generate(ask(engine, w, max_tokens=m))
        )
        assert (error.limit, error.prompt_tokens, error.max_tokens) == (CONTEXT, words, wanted or 0)
    assert answer(engine, ask(engine, 150, max_tokens=50))[1].usage == Usage(150, 50)


def check_tokens_are_counted_before_they_are_used(subject: Subject) -> None:
    engine, request = subject.engine, ask(subject.engine, 12, max_tokens=1)
    running = engine.generate(request)
    assert running.prompt_tokens == 12 and list(running)[-1].usage == Usage(12, 1)
    assert engine.max_model_len == CONTEXT
    assert engine.count_tokens(request.prompt) == 12
    assert engine.count_tokens([*request.prompt, {"role": "assistant", "content": " ".join(WORDS[:5])}]) == 17


def check_an_answer_is_cut_at_its_limit_and_counted(subject: Subject) -> None:
    text, last = answer(subject.engine, ask(subject.engine, 12, max_tokens=5))
    assert (last.finish_reason, last.usage, len(text.split())) == ("length", Usage(12, 5), 5)


def check_the_default_limit_yields_to_the_room_that_is_left(subject: Subject) -> None:
    for words, tokens in ((100, DEFAULT_MAX_TOKENS), (CONTEXT - 3, 3)):
        _, last = answer(subject.engine, ask(subject.engine, words))
        assert (last.finish_reason, last.usage) == ("length", Usage(words, tokens))


def check_a_greedy_answer_is_always_the_same(subject: Subject) -> None:
    assert len({answer(subject.engine, ask(subject.engine))[0] for _ in range(3)}) == 1


def check_the_same_seed_gives_the_same_text(subject: Subject) -> None:
    request = ask(subject.engine, temperature=1.0, top_p=0.9, seed=7)
    assert len({answer(subject.engine, request)[0] for _ in range(3)}) == 1


def check_a_stop_sequence_is_cut_off(subject: Subject) -> None:
    whole, _ = answer(subject.engine, ask(subject.engine, max_tokens=10))
    stop = " " + whole.split()[3]
    text, last = answer(subject.engine, ask(subject.engine, max_tokens=10, stop=("never", stop)))
    assert (text.strip(), last.finish_reason) == (whole.partition(stop)[0].strip(), "stop")


def check_penalised_words_do_not_come_again(subject: Subject) -> None:
    for penalty in ("frequency_penalty", "presence_penalty"):
        words = answer(subject.engine, ask(subject.engine, 30, max_tokens=25, **{penalty: 2.0}))[0].split()
        assert len(words) == len(set(words)) == 25, f"{penalty}: {words}"


def check_cancelling_ends_the_iteration(subject: Subject) -> None:
    generation = subject.engine.generate(ask(subject.engine, 90, max_tokens=100))
    pieces = iter(generation)
    assert next(pieces).text
    generation.cancel()
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == []
    generation.cancel()
    assert answer(subject.engine, ask(subject.engine))[1].finish_reason


def check_answers_side_by_side_are_those_of_answers_alone(subject: Subject) -> None:
    sizes = ((3, 40), (40, 5), (12, 30), (90, 20), (25, 11))
    requests = [ask(subject.engine, words, max_tokens=tokens) for words, tokens in sizes]
    alone = [answer(subject.engine, request)[0] for request in requests]
    together: dict[int, str] = {}

    def read(index: int) -> None:
        together[index] = answer(subject.engine, requests[index])[0]

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [together.get(index) for index in range(len(requests))] == alone


def check_a_text_or_its_tokens_may_be_continued(subject: Subject) -> None:
    engine = subject.engine
    text = " ".join(WORDS[:12])
    tokens = engine.tokenize(text)
    assert len(tokens) == 12 and engine.detokenize(tokens).strip() == text
    for prompt in (text, tokens):
        request = GenerationRequest(engine.chat_model, prompt, max_tokens=3, temperature=0.0)
        assert answer(engine, request)[1].usage == Usage(12, 3)
    assert fails(ValueError, lambda: engine.detokenize([10**6]))


def check_what_a_prompt_cannot_be_is_refused_by_its_parameter(subject: Subject) -> None:
    engine = subject.engine
    for wishes, param in (
        ({"prompt": ""}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"logit_bias": {10**6: 1.0}}, "logit_bias"),
    ):
        error = fails(UnsupportedError, lambda w=wishes: engine.generate(ask(engine, **w)))
        assert error.param == param


def check_logprobs_cover_every_token(subject: Subject) -> None:
    pieces = list(subject.engine.generate(ask(subject.engine, max_tokens=4, logprobs=2)))
    told = [one for piece in pieces for one in piece.logprobs]
    assert len(told) == 4
    for one in told:
        assert one.logprob <= 1e-3 and len(one.top) == 2 and one.top[0].logprob >= one.top[1].logprob
        assert one.data
    assert not any(piece.logprobs for piece in subject.engine.generate(ask(subject.engine, max_tokens=2)))


def check_a_schema_is_held_to(subject: Subject) -> None:
    schema = {
        "type": "object",
        "properties": {"w01": {"const": "w02"}},
        "required": ["w01"],
        "additionalProperties": False,
    }
    text, last = answer(subject.engine, ask(subject.engine, max_tokens=80, json_schema=schema))
    assert (json.loads(text), last.finish_reason) == ({"w01": "w02"}, "stop")


def check_a_score_is_told_for_every_token(subject: Subject) -> None:
    engine, scoring = subject.engine, subject.scoring
    tokens = engine.tokenize(" ".join(WORDS[:6]))
    scores = scoring.score(engine.chat_model, tokens, top=2)
    assert [one.id for one in scores] == tokens and math.isnan(scores[0].logprob)
    assert all(one.logprob < 0 and len(one.top) == 2 for one in scores[1:])
    assert fails(UnknownModelError, lambda: scoring.score("nope", tokens))


def check_embeddings_are_normalised_and_one_per_text(subject: Subject) -> None:
    engine = subject.embedding
    texts = [" ".join(WORDS[:count]) for count in (5, 1, 40, 2)]
    for model, told in engine.models.items():
        result = engine.embed(model, texts)
        assert len(result.vectors) == len(texts)
        assert {len(vector) for vector in result.vectors} == {told.dimensions}
        assert all(abs(math.hypot(*vector) - 1) < 1e-4 for vector in result.vectors)
        for text, vector in zip(texts, result.vectors, strict=True):
            alone = engine.embed(model, [text]).vectors[0]
            assert max(abs(a - b) for a, b in zip(alone, vector, strict=True)) < 1e-2
        assert result.prompt_tokens >= 48
    assert fails(UnknownModelError, lambda: engine.embed("nope", ["w01"]))


def check_tokens_can_be_embedded(subject: Subject) -> None:
    model = next(iter(subject.embedding.models))
    result = subject.embedding.embed(model, [[5, 6, 7], "w01 w02"])
    assert len(result.vectors) == 2 and abs(math.hypot(*result.vectors[0]) - 1) < 1e-4
    assert fails(ValueError, lambda: subject.embedding.embed(model, [[10**6]]))


def check_a_document_that_answers_ranks_first(subject: Subject) -> None:
    if subject.rerank is None:
        return
    documents = ["the cat sleeps on the mat", "paris is the capital of france", "w01 w02"]
    ranking = subject.rerank.rerank("what is the capital of france", documents)
    assert max(ranking.logits) == ranking.logits[1] > 0 and len(ranking.logits) == 3
    assert ranking.prompt_tokens > 15


def check_closing_ends_what_runs_and_refuses_more(subject: Subject) -> None:
    engine = subject.engine
    generations = [engine.generate(ask(engine, 90, max_tokens=100)) for _ in range(3)]
    ended = threading.Semaphore(0)

    def read(generation) -> None:
        list(generation)
        ended.release()

    for generation in generations:
        threading.Thread(target=read, args=(generation,), daemon=True).start()
    engine.close()
    for _ in generations:
        assert ended.acquire(timeout=10)
    assert not engine.ready
    assert fails(NotReadyError, lambda: engine.generate(ask(engine)))
    subject.embedding.close()
    model = next(iter(subject.embedding.models))
    assert fails(NotReadyError, lambda: subject.embedding.embed(model, ["w01"]))


def fails(kind: type[Exception], call: Callable[[], object]):
    """The error that the call raises; an AssertionError where it raises none."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}
