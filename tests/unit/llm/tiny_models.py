"""Tiny models with random weights, made in a folder; a word of the contract is a token, other text is bytes."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.unit.llm.engine_contract import CONTEXT, WORDS

SPECIAL = ["<pad>", "<unk>", "<eos>"]
TEMPLATE = "{% for message in messages %}{{ ' ' if not loop.first }}{{ message['content'] }}{% endfor %}"
_SPACE = "\u0120"
"""What a blank is called in a vocabulary of bytes."""


def make_models(folder: Path) -> None:
    """A chat model that never ends by itself, an adapter on it, one of another base, and an embedding model."""
    torch.manual_seed(3)
    tokenizer = make_tokenizer()
    chat = make_chat_model(tokenizer, 32)
    chat.save_pretrained(folder / "chat")
    for name, base in (("adapter", chat), ("other-adapter", make_chat_model(tokenizer, 48))):
        config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(folder / name)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "embedding")
    for name in ("chat", "embedding"):
        tokenizer.save_pretrained(folder / name)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the merges that make one token of each word, with and without a blank before it."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for word in WORDS:
        parts = [(word[:end], word[end]) for end in range(1, len(word))]
        for merge in [*parts, (_SPACE, word)]:
            if merge not in merges:
                merges.append(merge)
                tokens.append("".join(merge))
    tokenizer = Tokenizer(BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        chat_template=TEMPLATE,
    )


def make_chat_model(tokenizer: PreTrainedTokenizerFast, hidden_size: int) -> LlamaForCausalLM:
    """A model that says words of the contract alone, when nothing else is forced on it."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            eos_token_id=2,
            tie_word_embeddings=False,
        )
    )
    said = [tokenizer.convert_tokens_to_ids(_SPACE + word) for word in WORDS]
    with torch.no_grad():
        others = torch.ones(len(tokenizer), dtype=torch.bool)
        others[said] = False
        model.lm_head.weight[others] = 0
    return model
