"""The process that scores texts on torch: `python -m deployments.llm.engines.torch.scorer`.

A request is a line of JSON on its input, the answer a line on its output; it ends with its input. It knows the base
model from the settings, and adapters as the folders that requests name.
"""

import base64
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, Final, TextIO

import torch

from deployments.llm.engines.ports import EngineError, TokenLogprob
from deployments.llm.engines.torch.models import Models
from deployments.llm.engines.torch.vocabulary import score_tokens
from deployments.llm.engines.torch.weights import locate_chat_weights
from deployments.llm.settings import LlmSettings
from shared.log_lines import write_log

_BASE: Final = ""
_TUNED: Final = 1
"""Fine-tuned models kept in memory; each has as many weights as the base."""


def serve(models: Models, vocabulary: Any, requests: TextIO, answers: TextIO) -> None:
    """Answers requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        try:
            model = request["adapter"] or _BASE
            if model != _BASE:
                models.register(model, Path(model), same=True)
            scores = score_tokens(models.get(model), vocabulary, request["tokens"], request["top"])
            answer: dict[str, Any] = {"scores": [pack(one) for one in scores]}
        except ValueError as error:
            answer = {"value_error": str(error)}
        except (EngineError, RuntimeError) as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def pack(score: TokenLogprob) -> list[Any]:
    """A score as JSON can have it: id, bytes in base64, log probability or null for NaN, alternatives."""
    logprob = None if math.isnan(score.logprob) else score.logprob
    data = base64.b64encode(score.data).decode()
    return [score.id, data, logprob, [pack(one) for one in score.top]]


def main() -> None:
    """Loads the base model and serves; what libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = LlmSettings()
    write_log(settings.log_level)
    torch.set_num_threads(settings.llm_threads or max(1, (os.cpu_count() or 2) // 2))
    models = Models(_BASE, _TUNED)
    vocabulary = models.load(locate_chat_weights(settings))
    serve(models, vocabulary, sys.stdin, answers)


if __name__ == "__main__":
    main()
