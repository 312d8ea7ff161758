"""The body of a text completion: prompts as text or tokens, and what the engine is asked for them."""

from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from deployments.llm.api.sampling import SamplingBody
from deployments.llm.engines.ports import GenerationRequest, Tokens
from deployments.llm.routes.strict_body import refuse

MAX_ANSWERS: Final = 32
"""Of all prompts of a request."""
DEFAULT_MAX_TOKENS: Final = 16

Text = Annotated[str, Field(min_length=1)]
Token = Annotated[int, Field(ge=0)]
TokenList = Annotated[list[Token], Field(min_length=1, max_length=1_000_000)]


class CompletionBody(SamplingBody):
    """OpenAI's request body; `max_tokens` 0 writes nothing, which with `echo` and `logprobs` scores the prompt.

    `user` can have no effect and is let pass; `best_of` has to be `n`.
    """

    refused: ClassVar = {
        "suffix": "the model can't fill in the middle.",
        "top_k": "use 'top_p'.",
    }

    prompt: (
        Text
        | TokenList
        | Annotated[list[Text], Field(min_length=1, max_length=256)]
        | Annotated[list[TokenList], Field(min_length=1, max_length=256)]
    )
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """What fields say of each other."""
        if self.best_of not in (None, self.n or 1):
            raise refuse(
                "No best is chosen here: leave 'best_of' out, or give it the value of 'n'.", "best_of"
            )
        if self.limit and len(self.prompts) * (self.n or 1) > MAX_ANSWERS:
            raise refuse(f"A request may have {MAX_ANSWERS} answers, prompts times 'n'.", "prompt")
        return self

    @property
    def prompts(self) -> list[str | Tokens]:
        """The prompts, each a text or tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    @property
    def limit(self) -> int:
        """The longest answer in tokens."""
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's tokens are told with their probabilities."""
        return bool(self.echo) and self.logprobs is not None

    def as_requests(self, prompt: str | Tokens) -> list[GenerationRequest]:
        """What the engine is asked for a prompt: one request for each choice."""
        return [
            GenerationRequest(
                model=self.model,
                prompt=prompt,
                max_tokens=self.limit,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                frequency_penalty=self.frequency_penalty or 0.0,
                presence_penalty=self.presence_penalty or 0.0,
                seed=seed,
                stop=self.stops,
                logit_bias=self.biases,
                logprobs=self.logprobs,
            )
            for seed in self.seeds
        ]
