"""Describes an encoder to ONNX Runtime in a few KB that refer to the file of weights, which is then mapped, not copied.

A process of its own: the `onnx` package would stay in the server's memory. `python -m ... WEIGHTS` writes to stdout.
"""

import json
import sys
from pathlib import Path
from typing import Final

import onnx

from deployments.llm.engines.onnx.bert import describe_bert, refer
from deployments.llm.engines.weights import WeightsMissingError

_SMALL: Final = 65_536


def describe_onnx(file: Path) -> onnx.ModelProto:
    """The model of an ONNX file with its large tensors left where they are."""
    content = file.read_bytes()
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's own
        raise WeightsMissingError(f"{file} is not an ONNX file: {error}") from error
    # A hub's snapshot links to files of other names, and links must not lead out of the folder.
    name, place = file.resolve().name, 0
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _SMALL:
            continue
        # They mostly stand in the file's order; a search from its beginning is the rare case.
        found = content.find(tensor.raw_data, place)
        found = found if found >= 0 else content.find(tensor.raw_data)
        place, length = found + len(tensor.raw_data), len(tensor.raw_data)
        refer(tensor, name, found, length)
    return model


def main(weights: Path, config: Path) -> None:
    """Writes the description, or says what is wrong."""
    try:
        if weights.suffix == ".onnx":
            model = describe_onnx(weights)
        else:
            model = describe_bert(weights, json.loads(config.read_text()))
    except (WeightsMissingError, OSError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(model.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
