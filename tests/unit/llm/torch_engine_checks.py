"""Runs the engine's contract on the torch engine, over tiny models with random weights made in the folder given.

`.venv-llm/bin/python -m tests.unit.llm.torch_engine_checks FOLDER` prints each check's name and what failed, as JSON.
"""

import json
import sys
import traceback
from pathlib import Path
from unittest import mock

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from deployments.llm.engines.ports import (
    ContextTooLongError,
    EngineError,
    GenerationRequest,
    QueueFullError,
    UnknownModelError,
)
from deployments.llm.engines.torch import engine as torch_engine
from deployments.llm.engines.torch import lora
from deployments.llm.engines.torch.engine import TorchEngine
from deployments.llm.trainer.supervised import Progress, TrainingSettings, train_adapter
from deployments.llm.engines.torch.sampling import penalise
from deployments.llm.settings import LlmSettings
from tests.unit.llm.engine_contract import (
    CHECKS,
    CONTEXT,
    DEFAULT_MAX_TOKENS,
    WORDS,
    Subject,
    answer,
    ask,
    fails,
)

TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def make_models(folder: Path) -> None:
    """A chat model that never ends by itself, an adapter on it, an embedding model; a word is a token."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<eos>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    torch.manual_seed(3)
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
    }
    chat = LlamaForCausalLM(
        LlamaConfig(
            **sizes,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            eos_token_id=2,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        chat.lm_head.weight[:3] = 0
    chat.save_pretrained(folder / "chat")
    get_peft_model(chat, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder / "adapter")
    BertModel(BertConfig(**sizes, num_attention_heads=4)).save_pretrained(folder / "embedding")
    for name in ("chat", "embedding"):
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            unk_token="<unk>",
            eos_token="<eos>",
            chat_template=TEMPLATE,
        ).save_pretrained(folder / name)


def start_engine(folder: Path, **settings) -> Subject:
    engine = TorchEngine(
        LlmSettings(
            llm_chat_weights=str(folder / "chat"),
            llm_embedding_weights=str(folder / "embedding"),
            llm_default_max_tokens=DEFAULT_MAX_TOKENS,
            llm_threads=1,
            **settings,
        )
    )
    engine.load()
    assert engine.ready, engine.failure
    return Subject(engine, folder / "adapter")


def check_penalties_are_openais(_: Path) -> None:
    logits = torch.tensor([1.0, 2.0, 3.0, -1.0])
    penalise(logits, [2, 0, 2, 2], GenerationRequest("m", [], frequency_penalty=0.5, presence_penalty=-0.25))
    assert logits.tolist() == [0.75, 2.0, 1.75, -1.0]
    penalise(logits, [2, 0], GenerationRequest("m", []))
    assert logits.tolist() == [0.75, 2.0, 1.75, -1.0]


def check_a_penalty_changes_its_own_answer_alone(folder: Path) -> None:
    engine = start_engine(folder).engine
    plain, penalised = ask(engine), ask(engine, frequency_penalty=1.5)
    alone = [answer(engine, request)[0] for request in (plain, penalised)]
    assert alone[0] != alone[1]
    generations = [engine.generate(request) for request in (plain, penalised)]
    assert ["".join(piece.text for piece in generation) for generation in generations] == alone


def check_other_seeds_give_other_texts(folder: Path) -> None:
    engine = start_engine(folder).engine
    assert len({answer(engine, ask(engine, temperature=1.0, seed=seed))[0] for seed in range(3)}) == 3


def check_who_went_away_frees_the_queue(folder: Path) -> None:
    engine = start_engine(folder, llm_max_batch=1, llm_max_queue=2).engine
    running = engine.generate(ask(engine, 20, max_tokens=170))
    waiting = engine.generate(ask(engine))
    assert fails(QueueFullError, lambda: engine.generate(ask(engine)))
    waiting.cancel()
    last = engine.generate(ask(engine))
    running.cancel()
    assert list(last)[-1].finish_reason


def check_the_batch_takes_answers_by_their_tokens(folder: Path) -> None:
    # Beside 20 + 170 tokens another row may come to be padded to as many.
    engine = start_engine(folder, llm_max_batch_tokens=2 * 190 - 1).engine
    running = engine.generate(ask(engine, 20, max_tokens=170))
    next(iter(running))
    waiting = engine.generate(ask(engine, 20, max_tokens=2))
    assert next(iter(waiting)).text
    assert running.cancelled.is_set()  # as it is when an answer has ended


def check_one_answer_alone_is_let_in_however_long(folder: Path) -> None:
    engine = start_engine(folder, llm_max_batch_tokens=10).engine
    generations = [engine.generate(ask(engine, words, max_tokens=20)) for words in (150, 5, 100)]
    assert [list(generation)[-1].finish_reason for generation in generations] == ["length"] * 3


def check_a_model_forgotten_while_requests_wait(folder: Path) -> None:
    engine, adapter = start_engine(folder, llm_max_batch=1)
    engine.register_adapter("ft:x", adapter)
    engine.register_adapter("ft:y", adapter)
    running = engine.generate(ask(engine, model="ft:x", max_tokens=150))
    waiting = engine.generate(ask(engine, model="ft:y"))
    next(iter(running))
    engine.forget_adapter("ft:x")
    engine.forget_adapter("ft:y")
    assert list(running)[-1].finish_reason == "length"
    assert fails(UnknownModelError, lambda: list(waiting))


def check_weights_that_are_missing_are_a_failure_with_a_reason(folder: Path) -> None:
    engine = TorchEngine(LlmSettings(llm_chat_weights=str(folder), llm_embedding_weights=str(folder)))
    engine.load()
    assert not engine.ready and engine.failure
    assert fails(EngineError, lambda: engine.generate(ask(engine)))


def check_training_learns_alike_with_any_number_of_threads(folder: Path) -> None:
    words = [WORDS[number % len(WORDS)] for number in range(40)]
    examples = [
        [
            {"role": "user", "content": " ".join(words[number : number + 4 + number % 3])},
            {"role": "assistant", "content": " ".join(words[:3])},
        ]
        for number in range(5)
    ]
    losses, weights = [], []
    for threads in (1, 2):
        steps: list[Progress] = []
        target = folder / f"trained-{threads}"
        settings = TrainingSettings(4, 2, learning_rate_multiplier=5.0, seed=1, threads=threads)
        tokens = train_adapter(
            str(folder / "chat"), examples, examples[:3], settings, target, report=steps.append
        )
        assert tokens == 4 * sum(len(f"{m[0]['content']} {m[1]['content']}".split()) for m in examples)
        assert [step.step for step in steps] == list(range(1, 13))
        assert [step.valid_loss is not None for step in steps] == [False, False, True] * 4
        losses.append([step.valid_loss for step in steps if step.valid_loss is not None])
        weights.append(load_file(target / "adapter_model.safetensors"))
    assert losses[0][-1] < losses[0][0] - 0.2, losses
    assert all(torch.allclose(value, weights[1][name], atol=1e-3) for name, value in weights[0].items())


def check_training_takes_what_the_engine_counts_and_no_more(folder: Path) -> None:
    engine = start_engine(folder, llm_max_model_len=100).engine
    request = ask(engine, 60, max_tokens=40)
    text, last = answer(engine, request)
    example = [*request.messages, {"role": "assistant", "content": text}]
    assert last.finish_reason == "length" and engine.count_tokens(example) == engine.max_model_len == 100
    assert fails(ContextTooLongError, lambda: engine.generate(ask(engine, 60, max_tokens=41))).limit == 100

    def train(limit: int) -> int:
        settings = TrainingSettings(1, 1, learning_rate_multiplier=1.0, seed=1, threads=1, max_tokens=limit)
        return train_adapter(str(folder / "chat"), [example], [], settings, folder / "long", lambda _: None)

    assert train(100) == 100
    assert "Example 1 has 100 tokens; 99 is the limit" in str(fails(ValueError, lambda: train(99)))


def run_checks(folder: Path) -> dict[str, str]:
    """What failed, by the name of the check; empty where it passed."""
    make_models(folder)
    checks = {name: (lambda check=check: check(start_engine(folder))) for name, check in CHECKS.items()}
    for name, check in globals().items():
        if name.startswith("check_"):
            checks[name] = lambda check=check: check(folder)
    outcomes = {}
    for name, check in checks.items():
        try:
            check()
            outcomes[name] = ""
        except Exception:
            outcomes[name] = traceback.format_exc()
    return outcomes


if __name__ == "__main__":
    # In full precision everywhere: near ties of random weights fall either way in bfloat16.
    full = {"choose_dtype": lambda: torch.float32}
    with mock.patch.multiple(torch_engine, **full), mock.patch.multiple(lora, **full):
        print(json.dumps(run_checks(Path(sys.argv[1]))))
