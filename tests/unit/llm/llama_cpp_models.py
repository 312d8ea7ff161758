"""A tiny GGUF model with random weights, adapters on it, and the engine over them; a word is a token."""

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.numpy import save_file

from deployments.llm.engines.llama_cpp.engine import build_engine
from deployments.llm.engines.llama_cpp.quantised import finish
from deployments.llm.settings import LlmSettings
from tests.unit.llm.engine_contract import CONTEXT, DEFAULT_MAX_TOKENS, WORDS

TEMPLATE = (
    "{% for message in messages %}{% if not loop.first %} {% endif %}{{ message['content'] }}{% endfor %}"
)
WIDTH, LAYERS, HEADS, KV_HEADS, INNER = 64, 2, 4, 2, 96
CONTROL = {"<unk>": 2, "</s>": 3, "<|end|>": 3}
LETTERS = [chr(code) for code in range(33, 127)]
TOKENS = [*CONTROL, " ", *LETTERS, *WORDS, *(f" {word}" for word in WORDS)]
END = TOKENS.index("<|end|>")


def write_model(path: Path, *, template: str | None = TEMPLATE, space_prefix: bool = False) -> None:
    """A llama model that answers with words alone and never ends by itself."""
    random = np.random.default_rng(3)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    if space_prefix:
        writer.add_tokenizer_model("t5")
        writer.add_token_list([token.replace(" ", "▁") for token in TOKENS])
        writer.add_token_scores([-1.0 if len(token) > 2 else -5.0 for token in TOKENS])
        writer.add_remove_extra_whitespaces(True)
    else:
        writer.add_tokenizer_model("rwkv")
        writer.add_token_list([token.replace("\\", "\\\\") for token in TOKENS])
    writer.add_token_types([CONTROL.get(token, 1) for token in TOKENS])
    writer.add_unk_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if template is not None:
        writer.add_chat_template(template)

    def add(name: str, *shape: int) -> None:
        values = random.standard_normal(shape, dtype=np.float32) / 16
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            values[0] = 0  # the first number of each state stays what the token's embedding says
        writer.add_tensor(name, values)

    embedding = random.standard_normal((len(TOKENS), WIDTH), dtype=np.float32)
    embedding[:, 0] = 4
    writer.add_tensor("token_embd.weight", embedding)
    head = random.standard_normal((len(TOKENS), WIDTH), dtype=np.float32) / 50
    head[:, 0] = [0 if token[1:] in WORDS else -30 for token in TOKENS]
    writer.add_tensor("output.weight", head)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
        add(f"blk.{layer}.attn_q.weight", WIDTH, WIDTH)
        add(f"blk.{layer}.attn_k.weight", WIDTH * KV_HEADS // HEADS, WIDTH)
        add(f"blk.{layer}.attn_v.weight", WIDTH * KV_HEADS // HEADS, WIDTH)
        add(f"blk.{layer}.attn_output.weight", WIDTH, WIDTH)
        add(f"blk.{layer}.ffn_gate.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_up.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
    writer.add_file_type(GGMLQuantizationType.F32)
    finish(writer)


def write_adapter(folder: Path, *, seed: int = 1, width: int = WIDTH, size: float = 0.5, **config) -> Path:
    """An adapter as peft writes it, on the attention of the first layer."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    tensors = {}
    for name, rows in (("q_proj", width), ("v_proj", width * KV_HEADS // HEADS)):
        prefix = f"base_model.model.model.layers.0.self_attn.{name}"
        tensors[f"{prefix}.lora_A.weight"] = random.standard_normal((4, width), dtype=np.float32) * size
        tensors[f"{prefix}.lora_B.weight"] = random.standard_normal((rows, 4), dtype=np.float32) * size
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def start_engine(folder: Path, model: str = "tiny.gguf", **settings):
    """A loaded engine over the tiny model."""
    wishes = {"llm_base_model": str(folder / model), "llm_default_max_tokens": DEFAULT_MAX_TOKENS}
    wishes |= {"cache_dir": folder, "llm_threads": 1, "llm_max_batch": 3}
    engine = build_engine(LlmSettings(**{**wishes, **settings}))
    engine.load()
    return engine
