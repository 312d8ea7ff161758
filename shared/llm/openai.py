"""The OpenAI client behind the port: our own LLM server or any compatible provider.

It knows nothing of prompts or retrieval.
"""

import base64
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from shared.first_use import built_once
from shared.llm.port import Decoding, Llm, LlmError, LlmRefusedError, Message

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

EMBEDDING_BATCH = 64
REFUSALS = frozenset({400, 401, 403, 422})


class OpenAiLlm(Llm):
    """Retries connection errors, 429 and 5xx up to `max_retries` times with exponential back-off (the client's own)."""

    def __init__(self, base_url: str, api_key: str, *, timeout: float = 120.0, max_retries: int = 4) -> None:
        self._base_url, self._api_key, self._timeout, self._max_retries = (
            base_url,
            api_key,
            timeout,
            max_retries,
        )

    @built_once
    def client(self) -> "OpenAI":
        """The vendor's client; its import takes a second, so it waits for the first call."""
        from openai import OpenAI

        return OpenAI(
            base_url=self._base_url,
            api_key=self._api_key,
            timeout=self._timeout,
            max_retries=self._max_retries,
        )

    def stream_chat(self, model: str, messages: Sequence[Message], decoding: Decoding) -> Iterator[str]:
        with self._explained():
            stream = self.client.chat.completions.create(
                model=model,
                messages=cast(Any, list(messages)),
                max_completion_tokens=decoding.max_tokens,
                temperature=decoding.temperature,
                frequency_penalty=decoding.frequency_penalty,
                stream=True,
            )
            with stream:
                for event in stream:
                    if event.choices and (piece := event.choices[0].delta.content):
                        yield piece

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        with self._explained():
            for start in range(0, len(texts), EMBEDDING_BATCH):
                batch = list(texts[start : start + EMBEDDING_BATCH])
                answer = self.client.embeddings.create(model=model, input=batch)
                if len(answer.data) != len(batch):
                    raise LlmError(f"Asked for {len(batch)} embeddings, got {len(answer.data)}.")
                vectors += [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        return vectors

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        body = {"model": model, "query": query, "documents": list(texts), "return_documents": False}
        with self._explained(), self._reranking(model):
            answer = self.client.post("/rerank", cast_to=object, body=body)  # the client has no method for it
            return _read_logits(answer, len(texts))

    def draw(self, model: str, prompt: str, *, size: str = "1024x1024") -> bytes:
        from typing import Literal

        with self._explained():
            answer = self.client.images.generate(
                model=model,
                prompt=prompt,
                size=cast("Literal['1024x1024']", size),
                response_format="b64_json",
            )
            if not answer.data or not answer.data[0].b64_json:
                raise LlmError("The provider answered without a picture.")
            return base64.b64decode(answer.data[0].b64_json)

    def list_models(self) -> list[str]:
        with self._explained():
            return [model.id for model in self.client.models.list()]

    def knows_model(self, model: str) -> bool:
        from openai import BadRequestError, NotFoundError

        if not model:  # a version that someone registered by hand
            return False
        with self._explained():
            try:
                self.client.models.retrieve(model)
                return True
            except NotFoundError:
                pass
        # A wrong address, or a provider without this route, answers so too: the list decides, or fails.
        known = self.list_models()
        if not known:
            raise LlmError(
                f"{self._base_url} lists no model at all: it can't say whether there is {model!r}."
            )
        if model in known:
            return True
        with self._explained():  # not every provider lists its fine-tuned models: a word from it settles that
            try:
                self.client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=1
                )
                return True
            except NotFoundError:
                return False
            except BadRequestError as error:
                # Some answer so to a name they don't know; what finds fault with the request says nothing of it.
                if _blames_model(error, model):
                    return False
                raise

    @contextmanager
    def _reranking(self, model: str) -> Iterator[None]:
        """Many providers have no such route; they answer as if the address or the method were wrong."""
        from openai import APIStatusError

        try:
            yield
        except APIStatusError as error:
            if error.status_code not in (404, 405, 501):
                raise
            raise LlmRefusedError(
                f"{self._base_url} can't rerank with the model {model!r}: it answered {error.status_code}."
            ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from openai import APIConnectionError, APIStatusError, APITimeoutError, AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise LlmRefusedError(
                f"{self._base_url} refused the API key: check the secret llm_api_key."
            ) from error
        except APITimeoutError as error:
            raise LlmError(f"{self._base_url} gave no answer within {self._timeout:.0f} s.") from error
        except APIConnectionError as error:
            raise LlmError(f"{self._base_url} can't be reached: is the LLM server running?") from error
        except APIStatusError as error:
            kind = LlmRefusedError if error.status_code in REFUSALS else LlmError
            raise kind(f"{self._base_url} answered {error.status_code}: {error.message[:500]}") from error


def _blames_model(error: "APIStatusError", model: str) -> bool:
    return error.param == "model" or "model" in str(error.code) or model in error.message


def _read_logits(answer: Any, count: int) -> list[float]:
    """In the order of the texts. Our server tells the logit; others tell its sigmoid alone."""
    try:
        found = {
            int(result["index"]): float(result["logit"])
            if "logit" in result
            else _invert_sigmoid(float(result["relevance_score"]))
            for result in answer["results"]
        }
        logits = [found[index] for index in range(count)]
    except (KeyError, TypeError, ValueError) as error:
        raise LlmError(f"The provider's ranking of {count} texts can't be read: {error!r}.") from error
    if not all(map(math.isfinite, logits)):
        raise LlmError("The provider's ranking holds what is no number.")
    return logits


def _invert_sigmoid(score: float) -> float:
    if not 0 <= score <= 1:  # no sigmoid: some providers tell the logit under this name
        return score
    score = min(max(score, 1e-9), 1 - 1e-9)
    return math.log(score / (1 - score))
