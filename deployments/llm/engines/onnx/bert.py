"""Builds the ONNX graph of a BERT-like encoder over the tensors of a safetensors file, by hand: no torch, no export.

Its output is each token's last hidden state, or a logit where the model ranks.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deployments.llm.engines.onnx.folder import is_roberta
from deployments.llm.engines.weights import WeightsMissingError

_TYPES: Final = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}
_PREFIXES: Final = ("bert.", "roberta.")
_OPSET: Final = 20
_IR: Final = 10


def describe_bert(weights: Path, config: dict[str, Any]) -> onnx.ModelProto:
    """The graph of a BERT, RoBERTa or XLM-RoBERTa. Raises WeightsMissingError for any other, or a damaged file."""
    kind = config.get("model_type")
    if kind != "bert" and not is_roberta(config):
        raise WeightsMissingError(
            f"{weights.parent} holds a {kind} model: BERT and RoBERTa are possible, or ONNX."
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise WeightsMissingError(
            f"{weights.parent}: hidden_act {config['hidden_act']} is not computed, only gelu."
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise WeightsMissingError(f"{weights.parent}: only absolute position embeddings are computed.")
    return _Encoder(weights, config).describe()


def refer(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Makes a tensor one whose numbers are in a file beside."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


class _Encoder:
    """Collects nodes and initialisers. Rows and tokens are one axis, except where tokens attend to each other."""

    def __init__(self, weights: Path, config: dict[str, Any]) -> None:
        self._weights, self._config = weights, config
        self._tensors = _read_header(weights)
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: dict[str, onnx.TensorProto] = {}
        self._values: dict[str, str] = {}
        self._hidden, self._heads = config["hidden_size"], config["num_attention_heads"]

    def describe(self) -> onnx.ModelProto:
        hidden = self._add("Reshape", self._embed(), self._number("flat", [-1, self._hidden]))
        mask = self._add("Cast", "attention_mask", to=TensorProto.FLOAT)
        hide = self._add("Mul", self._add("Sub", self._number("one", 1.0), mask), self._number("low", -1e9))
        hide = self._add("Unsqueeze", hide, self._number("heads_and_rows", [1, 2]))
        for layer in range(self._config["num_hidden_layers"]):
            hidden = self._describe_layer(f"encoder.layer.{layer}.", hidden, hide)
        states = self._add("Reshape", hidden, self._rows_and_tokens(self._hidden))
        output = self._describe_head(states) or (
            "last_hidden_state",
            states,
            ["rows", "tokens", self._hidden],
        )
        name, value, shape = output
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        inputs = [
            helper.make_tensor_value_info(one, TensorProto.INT64, ["rows", "tokens"])
            for one in ("input_ids", "attention_mask", "token_type_ids")
        ]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self._nodes, "encoder", inputs, outputs, list(self._initialisers.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)

    def _embed(self) -> str:
        words = self._add("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        first = self._config.get("pad_token_id", 1) + 1 if is_roberta(self._config) else 0
        tokens = self._add("Gather", self._add("Shape", "input_ids"), self._number("second", 1))
        last = self._add("Add", tokens, self._number("first", first))
        places = self._add("Range", self._number("first", first), last, self._number("step", 1))
        places = self._add("Gather", self._weight("embeddings.position_embeddings.weight"), places)
        kinds = self._add("Gather", self._weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        return self._normalise(
            self._add("Add", self._add("Add", words, kinds), places), "embeddings.LayerNorm"
        )

    def _describe_layer(self, layer: str, hidden: str, hide: str) -> str:
        width = self._hidden // self._heads
        query, key, value = (
            self._add(
                "Transpose",
                self._add(
                    "Reshape",
                    self._linear(hidden, f"{layer}attention.self.{part}"),
                    self._rows_and_tokens(self._heads, width),
                ),
                perm=order,
            )
            for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        near = self._add("Mul", self._add("MatMul", query, key), self._number("scale", width**-0.5))
        share = self._add("Softmax", self._add("Add", near, hide), axis=-1)
        mixed = self._add("Transpose", self._add("MatMul", share, value), perm=[0, 2, 1, 3])
        mixed = self._add("Reshape", mixed, self._number("flat", [-1, self._hidden]))
        mixed = self._linear(mixed, f"{layer}attention.output.dense")
        hidden = self._normalise(self._add("Add", hidden, mixed), f"{layer}attention.output.LayerNorm")
        inner = self._add("Gelu", self._linear(hidden, f"{layer}intermediate.dense"))
        inner = self._linear(inner, f"{layer}output.dense")
        return self._normalise(self._add("Add", hidden, inner), f"{layer}output.LayerNorm")

    def _describe_head(self, states: str) -> tuple[str, str, list[Any]] | None:
        """A cross-encoder's logit; None for a model that only encodes."""
        roberta = is_roberta(self._config)
        dense, out = (
            ("classifier.dense", "classifier.out_proj") if roberta else ("pooler.dense", "classifier")
        )
        if f"{out}.weight" not in self._tensors or f"{dense}.weight" not in self._tensors:
            return None
        labels = self._tensors[f"{out}.weight"]["shape"][0]
        if labels != 1:
            raise WeightsMissingError(f"{self._weights} tells {labels} classes apart; a reranker has one.")
        first = self._add("Gather", states, self._number("begin", 0), axis=1)
        logits = self._linear(self._add("Tanh", self._linear(first, dense)), out)
        return "logits", logits, ["rows", 1]

    def _linear(self, given: str, name: str) -> str:
        return self._add(
            "Gemm", given, self._weight(f"{name}.weight"), self._weight(f"{name}.bias"), transB=1
        )

    def _normalise(self, given: str, name: str) -> str:
        scale, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        epsilon = self._config.get("layer_norm_eps", 1e-12)
        return self._add("LayerNormalization", given, scale, bias, axis=-1, epsilon=epsilon)

    def _rows_and_tokens(self, *rest: int) -> str:
        """The shape of the input with axes added to it."""
        return self._once(
            f"shape{rest}",
            lambda: self._add(
                "Concat", self._add("Shape", "input_ids"), self._number(f"rest{rest}", list(rest)), axis=0
            ),
        )

    def _weight(self, name: str) -> str:
        """A tensor of the file, in full precision."""
        if name not in self._tensors:
            raise WeightsMissingError(
                f"{self._weights} has no tensor {name}: it is not a whole BERT encoder."
            )
        if name not in self._initialisers:
            told = self._tensors[name]
            if told["dtype"] not in _TYPES:
                raise WeightsMissingError(
                    f"{self._weights}: {told['dtype']} is not computed, only {', '.join(_TYPES)}."
                )
            tensor = TensorProto(name=name, dims=told["shape"], data_type=_TYPES[told["dtype"]])
            refer(tensor, self._weights.resolve().name, told["begin"], told["length"])
            self._initialisers[name] = tensor
        if self._initialisers[name].data_type == TensorProto.FLOAT:
            return name
        return self._once(f"cast {name}", lambda: self._add("Cast", name, to=TensorProto.FLOAT))

    def _number(self, name: str, value: float | list[int]) -> str:
        kind = np.float32 if isinstance(value, float) else np.int64
        self._initialisers.setdefault(name, numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def _once(self, name: str, make: Any) -> str:
        if name not in self._values:
            self._values[name] = make()
        return self._values[name]

    def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output


def _read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Tensors of a safetensors file by name, without the model's prefix: dtype, shape, begin and length in bytes."""
    size = file.stat().st_size
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(min(length, size)))
        told = {name: one for name, one in header.items() if name != "__metadata__"}
        end = max(one["data_offsets"][1] for one in told.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsMissingError(f"{file} is not a safetensors file.") from error
    if size < 8 + length + end:
        raise WeightsMissingError(f"{file} is cut off: {size} of {8 + length + end} bytes are there.")
    return {
        _strip(name): {
            "dtype": one["dtype"],
            "shape": one["shape"],
            "begin": 8 + length + one["data_offsets"][0],
            "length": one["data_offsets"][1] - one["data_offsets"][0],
        }
        for name, one in told.items()
    }


def _strip(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
