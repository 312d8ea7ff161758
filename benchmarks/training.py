"""`python -m benchmarks.training`: how fast jobs train, beside a bare loop on transformers and peft.

It prints a table in Markdown, and runs under `.venv-trainer/bin/python`, on the bundled model. Its 96 examples are cut
and joined from those of `content/`, their lengths spread from some 60 to some 1,500 tokens: where all are of a length,
an order by length can show nothing. `--steps` of them are trained on, the same ones each way, each way in a process of
its own. ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 make a new CPU compute like an old one.
"""

import argparse
import contextlib
import json
import math
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

CONTENT = Path(__file__).resolve().parents[1] / "content"
BATCH = 2
EXAMPLES = 96
ORDERS = 100
SHORTEST, LONGEST = 60, 1500
TEMPLATE_TOKENS, TOKENS_PER_WORD = 36, 1.34
"""Of the bundled model's, about."""
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


def spread_lengths(conversations: list[list[dict[str, str]]], count: int) -> list[list[dict[str, str]]]:
    """So many examples, cut and joined from these, their lengths even on a logarithmic scale and in no order.

    A third of each is learned, as with posts and their prompts.
    """
    prompts, posts = (
        " ".join(" ".join(message["content"] for message in part) for part in parts).split()
        for parts in zip(*((each[:-1], each[-1:]) for each in conversations), strict=True)
    )
    draw = random.Random(0)
    made = []
    for number in range(count):
        tokens = SHORTEST * (LONGEST / SHORTEST) ** (number / max(1, count - 1))
        words = max(6, round((tokens - TEMPLATE_TOKENS) / TOKENS_PER_WORD))
        made.append(
            [
                {"role": "user", "content": cut(prompts, words - words // 3, draw)},
                {"role": "assistant", "content": cut(posts, words // 3, draw)},
            ]
        )
    draw.shuffle(made)
    return made


def cut(words: list[str], count: int, draw: random.Random) -> str:
    """So many words in a row from anywhere, around the end."""
    start = draw.randrange(len(words))
    return " ".join((words[start:] + words * (1 + count // len(words)))[:count])


def choose(conversations: list[list[dict[str, str]]], count: int) -> list[list[dict[str, str]]]:
    """So many of them, spread over all lengths as all are."""
    order = sorted(range(len(conversations)), key=lambda number: len(str(conversations[number])))
    wanted = {order[math.floor((place + 0.5) * len(order) / count)] for place in range(count)}
    return [each for number, each in enumerate(conversations) if number in wanted]


def shuffle(count: int, seed: int) -> list[int]:
    """An order that looks at no length."""
    return random.Random(seed).sample(range(count), count)


def measure_waiting(lengths: Sequence[int], order: Sequence[int]) -> float:
    """Tokens of each batch as if all its examples were as long as the longest, for each that there is.

    So much a padded batch computes; a crew, whose workers wait for the one with the longest, takes as long.
    """
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in batches)
    return padded / sum(lengths)


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
    rows = [rows[index] for index in shuffle(len(rows), 0)]
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
        data.order_examples = lambda lengths, size, seed, epoch: shuffle(len(lengths), seed)
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


def run_mode(mode: str, data: Path) -> dict[str, float]:
    """In this process: tokens a second, peak memory in MB, and seconds from its start until the first step begins."""
    from deployments.llm.engines.torch.weights import locate_chat_weights
    from deployments.llm.settings import LlmSettings

    conversations = [json.loads(line)["messages"] for line in data.read_text().splitlines()]
    weights = locate_chat_weights(LlmSettings())
    if mode == "bare":
        tokens, seconds = train_bare(weights, conversations)
    else:
        tokens, seconds = train_ours(weights, conversations, mode == "ours")
    start_up = time.time() - psutil.Process().create_time() - seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"speed": tokens / seconds, "peak": peak, "start": start_up, "tokens": tokens, "seconds": seconds}


def describe_set(data: Path) -> dict[str, Any]:
    """In this process: the shortest, median and longest in tokens, and how long batches wait, in `ORDERS` orders.

    The first one is that of the job.
    """
    from transformers import AutoTokenizer

    from deployments.llm.engines.torch.weights import locate_chat_weights
    from deployments.llm.settings import LlmSettings
    from deployments.llm.trainer.data import encode_examples, order_examples

    conversations = [json.loads(line)["messages"] for line in data.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(locate_chat_weights(LlmSettings()))
    lengths = [example.length for example in encode_examples(tokenizer, conversations, 2048)]
    return {
        "lengths": [min(lengths), round(statistics.median(lengths)), max(lengths)],
        "come": [measure_waiting(lengths, shuffle(len(lengths), seed)) for seed in range(ORDERS)],
        "ordered": [
            measure_waiting(lengths, order_examples(lengths, BATCH, seed, 0)) for seed in range(ORDERS)
        ],
    }


def run(mode: str, data: Path) -> dict[str, Any]:
    """What the mode prints, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--mode", mode, "--data", str(data)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints the table: medians of some runs, which take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=4, help=f"of {BATCH} examples each; {EXAMPLES // BATCH} are all"
    )
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument(
        "--ways", choices=MODES, nargs="+", default=list(MODES), help="the first is what others are held to"
    )
    parser.add_argument("--mode", choices=[*MODES, "set"], help="one run in this process, as JSON")
    parser.add_argument("--data", type=Path, help="the examples of that run")
    wishes = parser.parse_args()
    if wishes.mode:
        found = describe_set(wishes.data) if wishes.mode == "set" else run_mode(wishes.mode, wishes.data)
        print(json.dumps(found))
        return
    conversations = spread_lengths(read_conversations(40), EXAMPLES)
    results: dict[str, list[dict[str, float]]] = {mode: [] for mode in wishes.ways}
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder) / "all.jsonl", Path(folder) / "some.jsonl"
        for path, some in ((whole, conversations), (part, choose(conversations, wishes.steps * BATCH))):
            path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in some))
        described = {"all": run("set", whole), "some": run("set", part)}
        for _ in range(wishes.runs):
            for mode, runs in results.items():
                runs.append(run(mode, part))
                print(f"{mode}: {runs[-1]['seconds']:.0f} s", file=sys.stderr)
    medians = {
        mode: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for mode, runs in results.items()
    }
    print_report(described, medians, wishes.steps, wishes.runs)


def print_report(
    described: dict[str, Any], medians: dict[str, dict[str, float]], steps: int, runs: int
) -> None:
    """The table, and what the lengths alone would have said."""
    shortest, middle, longest = described["all"]["lengths"]
    first = next(iter(medians.values()))
    print(
        f"\n{EXAMPLES} examples of {shortest} to {longest} tokens (median {middle}); of them {steps} steps of {BATCH}\n"
        f"examples, {first['tokens']:.0f} tokens, the same ones each way; medians of {runs}\n"
    )
    print("| | tokens/s | to the first | seconds | peak MB | start-up s |\n|---|---|---|---|---|---|")
    for mode, row in medians.items():
        print(
            f"| {MODES[mode]} | {row['speed']:.0f} | {row['speed'] / first['speed']:.2f} | {row['seconds']:.0f} | "
            f"{row['peak']:.0f} | {row['start']:.1f} |"
        )
    if {"ours", "ours, as they come"} <= medians.keys():
        measured = medians["ours"]["speed"] / medians["ours, as they come"]["speed"]
        print(f"\nBatches by length train {measured:.2f} times as fast as batches as they come.")
    drawn = described["some"]["come"][0] / described["some"]["ordered"][0]
    come, ordered = (statistics.mean(described["all"][order]) for order in ("come", "ordered"))
    print(
        f"By the lengths in these two orders alone: {drawn:.2f} times; in {ORDERS} orders of all: {come / ordered:.2f}."
    )
    print(
        f"A batch is padded to, or waits for, {come:.2f} times its tokens as it comes, {ordered:.2f} by length."
    )


if __name__ == "__main__":
    main()
