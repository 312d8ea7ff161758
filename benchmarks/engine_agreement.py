"""How far llama.cpp's greedy posts are those of the torch reference, with the base and with an adapter.

`.venv/bin/python -m benchmarks.engine_agreement [--prompts 20]` prints a line of JSON per engine and model; it takes
some minutes. It asserts nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
CONTENT: Final = ROOT / "content"
REFERENCE: Final = "torch"
ENGINES: Final = {
    REFERENCE: ".venv-trainer/bin/python",
    "llama_cpp q8_0": ".venv-llm/bin/python",
    "llama_cpp f16": ".venv-llm/bin/python",
}
CHUNKS: Final = 3


def write_orders(count: int) -> list[dict[str, Any]]:
    """Requests as the desk and the exam make them, with the paragraphs that share most words with the topic."""
    from shared.examples import load_examples
    from shared.prompt import build_messages, choose_decoding
    from shared.voice import load_voice

    voice = load_voice(CONTENT / "voice.toml")
    decoding = choose_decoding(voice)
    paragraphs = [
        SimpleNamespace(title=file.stem, text=text)
        for file in sorted((CONTENT / "knowledge").rglob("*.md"))
        for text in file.read_text(encoding="utf-8").split("\n\n")
        if len(text) > 150
    ]
    examples, _ = load_examples(CONTENT / "examples")
    examples.sort(key=lambda example: (example.split != "holdout", str(example.path)))
    orders = []
    for example in examples[:count]:
        words = set(example.topic.lower().split())
        chunks = sorted(paragraphs, key=lambda chunk: -len(words & set(chunk.text.lower().split())))[:CHUNKS]
        orders.append(
            {
                "prompt": build_messages(voice, example.topic, chunks),
                "max_tokens": decoding.max_tokens,
                "temperature": 0.0,
                "frequency_penalty": decoding.frequency_penalty,
            }
        )
    return orders


def answer(engine_name: str, orders: Path, adapter: str, target: Path) -> None:
    """Runs in the engine's own environment: answers every order alone and writes texts, tokens and seconds."""
    from deployments.llm.engines.ports import GenerationRequest
    from deployments.llm.settings import LlmSettings

    settings = LlmSettings()
    if engine_name == REFERENCE:
        import torch

        from deployments.llm.engines.torch import engine as module

        module.choose_dtype = lambda *_: torch.float32
        engine = module.build_engine(settings)
    else:
        from deployments.llm.engines.llama_cpp.engine import build_engine

        if engine_name.endswith("f16"):
            settings = settings.model_copy(update={"llm_base_model": str(write_f16(settings))})
        engine = build_engine(settings)
    engine.load()
    assert engine.ready, engine.failure
    model = engine.chat_model
    if adapter:
        model = "ft:adapter"
        engine.register_adapter(model, Path(adapter))
        list(engine.generate(GenerationRequest(model, "Hello", max_tokens=1)))
    told = []
    for order in json.loads(orders.read_text()):
        started = time.monotonic()
        pieces = list(engine.generate(GenerationRequest(model=model, **order)))
        usage = pieces[-1].usage
        told.append(
            {
                "text": "".join(piece.text for piece in pieces),
                "prompt_tokens": usage.prompt_tokens,
                "counted": engine.count_tokens(order["prompt"]),
                "completion_tokens": usage.completion_tokens,
                "seconds": time.monotonic() - started,
            }
        )
    target.write_text(json.dumps(told))
    engine.close()


def write_f16(settings: Any) -> Path:
    """The packaged weights with 16 bits."""
    from gguf import GGMLQuantizationType

    from deployments.llm.engines.llama_cpp.quantised import requantise
    from deployments.llm.engines.weights import locate_base_weights

    target = settings.models_dir / "agreement-f16.gguf"
    if not target.is_file():
        requantise(Path(locate_base_weights("")), target, GGMLQuantizationType.F16)
    return target


def write_adapter(target: Path) -> None:
    """Runs beside torch: a random adapter on all linear layers, strong enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from deployments.llm.engines.torch.weights import locate_chat_weights
    from deployments.llm.settings import LlmSettings

    torch.manual_seed(5)
    packaged = LlmSettings().model_copy(update={"llm_base_model": "", "llm_base_model_sha256": ""})
    base = AutoModelForCausalLM.from_pretrained(locate_chat_weights(packaged), dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_B" in name:
                values.normal_(std=0.01)
    model.save_pretrained(target)


def compare(reference: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, float]:
    """Figures of one engine beside the reference."""
    from shared.form import form_score
    from shared.voice import load_voice

    voice = load_voice(CONTENT / "voice.toml")
    pairs = [(a["text"], b["text"]) for a, b in zip(reference, other, strict=True)]
    common = [_count_common(a.split(), b.split()) for a, b in pairs if a != b]
    scores = [(form_score(a, voice).score, form_score(b, voice).score) for a, b in pairs]
    counts = sum(
        a["prompt_tokens"] == b["prompt_tokens"] == b["counted"]
        for a, b in zip(reference, other, strict=True)
    )
    return {
        "identical": sum(a == b for a, b in pairs),
        "same_prompt_tokens": counts,
        "median_words_before_the_first_difference": statistics.median(common) if common else 0,
        "mean_words_shared": statistics.mean(_share_words(a, b) for a, b in pairs),
        "form": statistics.mean(b for _, b in scores),
        "form_difference": statistics.mean(b - a for a, b in scores),
        "seconds": statistics.median(one["seconds"] for one in other),
    }


def _count_common(a: list[str], b: list[str]) -> int:
    return next(
        (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _share_words(a: str, b: str) -> float:
    first, second = Counter(a.split()), Counter(b.split())
    return 2 * (first & second).total() / max(1, first.total() + second.total())


def main() -> None:
    """Prints one line of JSON per engine and model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=20)
    count = parser.parse_args().prompts
    with tempfile.TemporaryDirectory() as folder:
        orders, adapter = Path(folder) / "orders.json", Path(folder) / "adapter"
        orders.write_text(json.dumps(write_orders(count)))
        _call(ENGINES[REFERENCE], "adapter", str(adapter))
        for model in ("", str(adapter)):
            told = {}
            for engine, python in ENGINES.items():
                target = Path(folder) / "told.json"
                _call(python, "answer", engine, str(orders), model, str(target))
                told[engine] = json.loads(target.read_text())
                figures = compare(told[REFERENCE], told[engine])
                name = "adapter" if model else "base"
                print(json.dumps({"model": name, "engine": engine, "prompts": count, **figures}), flush=True)


def _call(python: str, *arguments: str) -> None:
    command = [str(ROOT / python), "-m", "benchmarks.engine_agreement", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, timeout=3600)


if __name__ == "__main__":
    if sys.argv[1:2] == ["answer"]:
        answer(sys.argv[2], Path(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
    elif sys.argv[1:2] == ["adapter"]:
        write_adapter(Path(sys.argv[2]))
    else:
        main()
