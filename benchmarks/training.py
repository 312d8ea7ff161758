"""`python -m benchmarks.training`: how fast jobs train, beside a bare loop on transformers and peft.

It prints a table in Markdown, and runs under `.venv-trainer/bin/python`, on the bundled model and on the examples of
`content/`, each figure in a process of its own. ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 make a new CPU compute
like an old one.
"""

import argparse
import contextlib
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

CONTENT = Path(__file__).resolve().parents[1] / "content"
BATCH = 2
MODES = {
    "bare": "transformers + peft, a loop of ten lines, batches as they come",
    "ours, as they come": "the trainer, batches as they come",
    "ours": "the trainer, batches by length",
}


class _Chunk(NamedTuple):
    chunk_id: str
    uri: str
    content_hash: str
    title: str
    text: str


def read_conversations(count: int) -> list[list[dict[str, str]]]:
    """Examples of `content/` with the prompts that training uses; context is found by common words."""
    from shared.examples import load_examples
    from shared.prompt import build_messages
    from shared.voice import load_voice

    voice = load_voice(CONTENT / "voice.toml")
    chunks = []
    for path in sorted((CONTENT / "knowledge").rglob("*.md")):
        title, *_ = (text := path.read_text()).splitlines()
        for number, section in enumerate(re.split(r"\n(?=## )", text)):
            words = " ".join(section.split()[:110])
            chunks.append(_Chunk(f"{path.stem}-{number}", path.as_posix(), "", title.lstrip("# "), words))

    def list_words(text: str) -> set[str]:
        return set(re.findall(r"\w{4,}", text.lower()))

    examples = sorted(
        (e for e in load_examples(CONTENT / "examples")[0] if e.split == "train"), key=lambda e: e.path
    )
    conversations = []
    for example in examples[:count]:
        wanted = list_words(example.topic + example.text)
        best = sorted(chunks, key=lambda chunk: -len(wanted & list_words(chunk.text)))[
            : voice.retrieval.top_k
        ]
        messages: list[Any] = list(build_messages(voice, example.topic, best))
        conversations.append([*messages, {"role": "assistant", "content": example.text}])
    return conversations


def train_bare(weights: str, conversations: list[Any]) -> tuple[int, float]:
    """Tokens, and seconds without loading."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq

    from deployments.llm.engines.torch.device import choose_device, choose_dtype, count_training_threads
    from deployments.llm.trainer.data import encode_examples

    torch.set_num_threads(count_training_threads())
    tokenizer = AutoTokenizer.from_pretrained(weights)
    examples = encode_examples(tokenizer, conversations, 2048)
    dtype, device = choose_dtype(), choose_device()
    base = AutoModelForCausalLM.from_pretrained(weights, dtype=dtype).to(device)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=2e-3, weight_decay=0.0)
    collate = DataCollatorForSeq2Seq(tokenizer)
    rows = [
        {"input_ids": e.ids, "labels": [i if own else -100 for i, own in zip(e.ids, e.learned, strict=True)]}
        for e in examples
    ]
    random.Random(0).shuffle(rows)
    mixed = dtype != torch.float32
    precision = torch.autocast(device.type, dtype=dtype) if mixed else contextlib.nullcontext()
    model.train()
    started = time.monotonic()
    for start in range(0, len(rows), BATCH):
        with precision:
            loss = model(**collate(rows[start : start + BATCH]).to(device), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return sum(example.length for example in examples), time.monotonic() - started


def train_ours(weights: str, conversations: list[Any], by_length: bool) -> tuple[int, float]:
    """Tokens, and seconds from the first step to the checkpoint after the last."""
    from transformers import Trainer

    from deployments.llm.fine_tuning.job import Hyperparameters, Job
    from deployments.llm.trainer import data, training

    if not by_length:
        data.order_examples = lambda lengths, size, seed, epoch: random.Random(seed).sample(  # type: ignore[assignment]
            range(len(lengths)), len(lengths)
        )
    seconds = 0.0
    train = Trainer.train

    def measure(*arguments: Any, **wishes: Any) -> Any:
        nonlocal seconds
        started = time.monotonic()
        result = train(*arguments, **wishes)
        seconds = time.monotonic() - started
        return result

    Trainer.train = measure  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            id="ftjob-00000000",
            created_at=0,
            model="base",
            training_file="file-1",
            hyperparameters=Hyperparameters(n_epochs=1, batch_size=BATCH),
        )
        lines = (json.dumps({"messages": messages}) + "\n" for messages in conversations)
        (Path(folder) / "train.jsonl").write_text("".join(lines))
        return training.train_job(Path(folder), job, weights, max_tokens=2048), seconds


def run_mode(mode: str, count: int) -> dict[str, float]:
    """In this process: tokens a second, peak memory in MB, and seconds until the first step can begin."""
    started = time.monotonic()
    from deployments.llm.engines.torch.weights import locate_chat_weights
    from deployments.llm.settings import LlmSettings

    settings = LlmSettings()
    weights = locate_chat_weights(settings)
    conversations = read_conversations(count)
    if mode == "bare":
        tokens, seconds = train_bare(weights, conversations)
    else:
        tokens, seconds = train_ours(weights, conversations, mode == "ours")
    start_up = time.monotonic() - started - seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"speed": tokens / seconds, "peak": peak, "start": start_up, "tokens": tokens}


def main() -> None:
    """Prints the table: medians of some runs, which take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mode", choices=MODES, help="one run in this process, as JSON")
    wishes = parser.parse_args()
    if wishes.mode:
        print(json.dumps(run_mode(wishes.mode, wishes.examples)))
        return
    results: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(wishes.runs):
        for mode, runs in results.items():
            command = [
                sys.executable,
                "-m",
                "benchmarks.training",
                "--mode",
                mode,
                "--examples",
                str(wishes.examples),
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        mode: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for mode, runs in results.items()
    }
    tokens = medians["bare"]["tokens"]
    print(f"\n{wishes.examples} examples, {tokens:.0f} tokens, one epoch; medians of {wishes.runs}\n")
    print("| | tokens/s | to bare | peak MB | start-up s |\n|---|---|---|---|---|")
    for mode, row in medians.items():
        ratio = row["speed"] / medians["bare"]["speed"]
        print(
            f"| {MODES[mode]} | {row['speed']:.0f} | {ratio:.2f} | {row['peak']:.0f} | {row['start']:.1f} |"
        )


if __name__ == "__main__":
    main()
