"""Compares transformers with llama.cpp on tiny folders of each kind that is converted, made in the folder given.

`.venv-trainer/bin/python -m tests.unit.llm.llama_cpp_folder_checks FOLDER` prints what failed by kind, as JSON.
"""

import json
import logging
import sys
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from deployments.llm.engines.llama_cpp.engine import build_engine
from deployments.llm.engines.ports import GenerationRequest
from deployments.llm.settings import LlmSettings
from tests.unit.llm.check_outcomes import collect_outcomes

TEXTS = [
    f"The answer to question {number} is {number * 37}, isn't it?\n\nÉté 😀 {number}." for number in range(40)
]
KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 32}),
}
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>\n{% endfor %}"
PROMPT = "The answer to question 7 is"


def make_folder(folder: Path, kind: str) -> torch.nn.Module:
    """A model of that kind with random weights in bfloat16's values, and its tokenizer as SmolLM splits words."""
    tokenizer = Tokenizer(BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    config, model_class, more = KINDS[kind]
    torch.manual_seed(2)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 416, "max_position_embeddings": 256, "eos_token_id": 0}
    model = model_class(config(**sizes, **more, initializer_range=0.2, tie_word_embeddings=False))
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.endswith("bias"):
                values.normal_()
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=TEMPLATE)
    fast.save_pretrained(folder)
    return model.float().eval()


def check_kind(folder: Path, kind: str) -> None:
    """The likeliest next tokens, with the base and with an adapter, are transformers' own; so are all tokens."""
    model = make_folder(folder / kind, kind)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / kind)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, values in adapted.named_parameters():
            if "lora_B" in name:
                values.normal_(std=0.05)
    adapted.save_pretrained(folder / f"{kind}-adapter")
    adapted.eval()
    engine = build_engine(LlmSettings(llm_base_model=str(folder / kind), cache_dir=folder, llm_threads=1))
    engine.load()
    assert engine.ready, engine.failure
    engine.register_adapter("ft:x", folder / f"{kind}-adapter")
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert engine.tokenize(text) == ids and engine.detokenize(ids) == text, text
    prompt = torch.tensor([engine.tokenize(PROMPT)])
    for name in (engine.chat_model, "ft:x"):
        with torch.inference_mode():
            if name == "ft:x":
                logits = adapted(prompt).logits
            else:
                with adapted.disable_adapter():
                    logits = adapted(prompt).logits
        expected = torch.log_softmax(logits[0, -1], -1)
        request = GenerationRequest(name, PROMPT, max_tokens=1, temperature=0.0, logprobs=5)
        [told] = [one for piece in engine.generate(request) for one in piece.logprobs]
        assert float(expected.max() - expected[told.id]) < 0.15, (kind, name)  # 8 bits decide near ties
        for one in told.top:
            assert abs(one.logprob - float(expected[one.id])) < 0.15, (
                kind,
                name,
                one,
                float(expected[one.id]),
            )
    engine.close()
    assert isinstance(adapted, PeftModel)


def check_odd_folders(folder: Path) -> None:
    """What can't be converted is told in words."""
    make_folder(folder / "odd", "llama")
    config_file, weights = folder / "odd" / "config.json", folder / "odd" / "model.safetensors"
    config, whole = json.loads(config_file.read_text()), weights.read_bytes()
    for change, words in (
        ({"model_type": "mamba"}, "GHOSTWRITER_LLM_CHAT_ENGINE=torch"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "GHOSTWRITER_LLM_CHAT_ENGINE=torch"),
        ({"num_hidden_layers": 3}, "lacks"),
    ):
        config_file.write_text(json.dumps({**config, **change}))
        _fail(folder, words)
    config_file.write_text(json.dumps(config))
    weights.write_bytes(whole[:-500])
    _fail(folder, "incomplete")
    weights.unlink()
    _fail(folder, "has no *.safetensors")


def _fail(folder: Path, words: str) -> None:
    engine = build_engine(LlmSettings(llm_base_model=str(folder / "odd"), cache_dir=folder))
    engine.load()
    assert not engine.ready and words in (engine.failure or ""), engine.failure
    assert not list((folder / "models").glob("*odd*")), "a part of a file was left"


if __name__ == "__main__":
    logging.disable()
    where = Path(sys.argv[1])
    checks = {kind: partial(check_kind, where, kind) for kind in KINDS}
    print(json.dumps(collect_outcomes({**checks, "odd": partial(check_odd_folders, where)})))
