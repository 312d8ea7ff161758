"""Makes tiny encoders with random weights in the folder given, and writes what torch computes with them and with the
packaged all-MiniLM-L6-v2: `.venv-trainer/bin/python -m tests.unit.llm.onnx_reference FOLDER`.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from deployments.llm.engines.weights import locate_embedding_weights

WORDS = [f"w{number:02d}" for number in range(40)]
TEXTS = ["w01", "w02 w03 w04 w05 w06 w07 w08 w09 w10 w11", " ".join(WORDS), "w05 w05 nothing w06"]
SENTENCES = [
    "The scheduler runs a task when its asset changes.",
    "A deferrable operator waits in the triggerer while the workers do something else. " * 7,
    "Ünïcödé, 日本語 and \x00 NUL",
    "no",
]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 60,
}


def save_tokenizer(folder: Path, pad: int) -> None:
    """A word is a token; what begins and ends a text stands around it."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"] if pad == 0 else ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if pad == 0 else "[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=50,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "unk")},
    )
    wrapped.save_pretrained(folder)


def make_models(folder: Path) -> None:
    """Two kinds of encoder and of reranker, and one encoder in half precision that pools by its first token."""
    torch.manual_seed(5)
    bert = BertConfig(vocab_size=44, **SIZES)
    roberta = XLMRobertaConfig(vocab_size=44, pad_token_id=1, type_vocab_size=1, **SIZES)
    ranking = {"num_labels": 1, "hidden_act": "gelu"}
    models = {
        "bert": BertModel(bert),
        "roberta": XLMRobertaModel(roberta),
        "half": BertModel(bert).to(torch.bfloat16),
        "bert_ranks": BertForSequenceClassification(BertConfig(vocab_size=44, **SIZES, **ranking)),
        "roberta_ranks": XLMRobertaForSequenceClassification(
            XLMRobertaConfig(vocab_size=44, pad_token_id=1, type_vocab_size=1, **SIZES, **ranking)
        ),
    }
    for name, model in models.items():
        for parameter in model.parameters():  # so that biases and differences are not next to nothing
            parameter.data += torch.randn_like(parameter) * 0.2
        model.save_pretrained(folder / name)
        save_tokenizer(folder / name, 1 if name.startswith("roberta") else 0)
    (folder / "half" / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    (folder / "half" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


@torch.inference_mode()
def embed(source: str, texts: list[str], pool: str, limit: int) -> list[list[float]]:
    """Normalised vectors, each text computed alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).float().eval()
    vectors = []
    for text in texts:
        batch = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        states = model(**batch).last_hidden_state
        pooled = states[:, 0] if pool == "cls" else states.mean(1)
        vectors.append(torch.nn.functional.normalize(pooled)[0].tolist())
    return vectors


@torch.inference_mode()
def rank(source: Path, kind: type, query: str, documents: list[str]) -> list[float]:
    """Logits, each pair computed alone; only the document is cut."""
    tokenizer, model = AutoTokenizer.from_pretrained(source), kind.from_pretrained(source).eval()
    logits = []
    for document in documents:
        batch = tokenizer(query, document, truncation="only_second", max_length=50, return_tensors="pt")
        segments = (
            {"token_type_ids": batch["token_type_ids"]} if kind is BertForSequenceClassification else {}
        )
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        logits.append(model(**inputs, **segments).logits[0, 0].item())
    return logits


def main(folder: Path) -> None:
    """Writes reference.json beside the models."""
    make_models(folder)
    reference = {
        "minilm": embed(locate_embedding_weights(""), SENTENCES, "mean", 256),
        "bert": embed(str(folder / "bert"), TEXTS, "mean", 50),
        "roberta": embed(str(folder / "roberta"), TEXTS, "mean", 50),
        "half": embed(str(folder / "half"), TEXTS, "cls", 50),
        "bert_ranks": rank(folder / "bert_ranks", BertForSequenceClassification, TEXTS[1], TEXTS),
        "roberta_ranks": rank(folder / "roberta_ranks", XLMRobertaForSequenceClassification, TEXTS[1], TEXTS),
    }
    texts = {"texts": TEXTS, "sentences": SENTENCES}
    (folder / "reference.json").write_text(json.dumps({**texts, **reference}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
