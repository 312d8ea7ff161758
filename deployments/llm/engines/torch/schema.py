"""Holds an answer to a JSON schema: which tokens may come next, by llguidance.

It knows no model and no queue.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import torch

from deployments.llm.engines.ports import UnsupportedError
from deployments.llm.engines.torch.vocabulary import Vocabulary

_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Small models repeat optional white space for ever."""
_PARAM: Final = "response_format"
_MAX_BYTES: Final = 64 * 1024


class SchemaGuide:
    """One answer's way through a schema. Raises UnsupportedError for a schema that can't be held to."""

    def __init__(self, vocabulary: Vocabulary, schema: Mapping[str, Any]) -> None:
        from llguidance import LLMatcher

        try:
            text = json.dumps(schema or {"type": "object"})
            if len(text) > _MAX_BYTES:
                raise ValueError(f"it has {len(text)} bytes, and {_MAX_BYTES} is the limit")
            grammar = LLMatcher.grammar_from_json_schema(text, overrides=_COMPACT)
        except (TypeError, ValueError, RecursionError) as error:
            raise UnsupportedError(f"The JSON schema can't be used: {error}", _PARAM) from error
        self._matcher = LLMatcher(vocabulary.guide, grammar, log_level=0)
        self._check()
        self._matcher.compute_logit_bias()
        if self._matcher.is_error() or not bool(self.allowed().any()):
            raise UnsupportedError("No JSON satisfies this schema.", _PARAM)

    def allowed(self) -> torch.Tensor:
        """Whether each token of the vocabulary may come next."""
        bias = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8) > 0
        self._check()
        return bias

    def take(self, token: int) -> bool:
        """Goes on past a token; True when the JSON is whole and nothing may follow."""
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = str(self._matcher.get_error()).splitlines()[0][:300]
            raise UnsupportedError(f"The JSON schema can't be held to: {reason}", _PARAM)
