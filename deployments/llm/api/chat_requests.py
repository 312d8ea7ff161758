"""The body of a chat completion, and what the engine is asked for it."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from deployments.llm.api.answer_formats import ChatFormat
from deployments.llm.api.messages import ChatMessage, render_messages
from deployments.llm.api.sampling import Metadata, SamplingBody
from deployments.llm.api.tool_answers import PlainAnswer, ToolAnswer
from deployments.llm.api.tools import MAX_TOOLS, Function, Mode, ToolName, ToolUse, choose_tools
from deployments.llm.engines.ports import GenerationRequest
from deployments.llm.routes.strict_body import StrictBody, refuse


class Tool(StrictBody):
    """A function to call; other kinds of tools are not known."""

    type: Literal["function"]
    function: Function


class FunctionName(StrictBody):
    """A function by its name."""

    name: ToolName


class NamedTool(StrictBody):
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(StrictBody):
    """Those that may be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(StrictBody):
    """A narrower choice of tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class ChatBody(SamplingBody):
    """OpenAI's request body.

    These can have no effect on an answer here and are let pass: `user`, `metadata`, `safety_identifier`,
    `prompt_cache_key`; and of those that could, the values that ask for what is done anyway: `store` false,
    `service_tier` auto or default, `modalities` of text, `reasoning_effort` none, `verbosity` medium.
    """

    refused: ClassVar = {
        "functions": "use 'tools'.",
        "function_call": "use 'tool_choice'.",
        "audio": "there is only text.",
        "prediction": "leave it out.",
        "web_search_options": "there is no search.",
        "moderation": "nothing is moderated here.",
        "prompt_cache_options": "prompts are cached as the server finds best.",
        "prompt_cache_retention": "prompts are cached as the server finds best.",
        "top_k": "use 'top_p'.",
    }

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ChatFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Mode | NamedTool | AllowedChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: Metadata | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None

    _tool_use: ToolUse | None = PrivateAttr(default=None)
    _prompt: list[dict[str, str]] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """What fields say of each other."""
        if self.top_logprobs is not None and not self.logprobs:
            raise refuse("'top_logprobs' needs 'logprobs': true.", "top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise refuse("Give 'max_tokens' or 'max_completion_tokens', not both.", "max_tokens")
        if self.parallel_tool_calls is not None and not self.tools:
            raise refuse("'parallel_tool_calls' needs 'tools'.", "parallel_tool_calls")
        self._tool_use = self._choose_tools()
        self._prompt = render_messages(self.messages, self._tool_use)
        return self

    def _choose_tools(self) -> ToolUse | None:
        functions = [tool.function for tool in self.tools or ()]
        choice, named, allowed = self.tool_choice or "auto", None, None
        mode: Mode = "required"
        if isinstance(choice, NamedTool):
            named = choice.function.name
        elif isinstance(choice, AllowedChoice):
            allowed = [tool.function.name for tool in choice.allowed_tools.tools]
            mode = choice.allowed_tools.mode
        else:
            mode = choice
        return choose_tools(
            functions,
            mode,
            named=named,
            allowed=allowed,
            parallel=self.parallel_tool_calls is not False,
            response=self.response_format.held if self.response_format else None,
        )

    @property
    def blamed_schema(self) -> str:
        """The parameter that a schema comes from."""
        return "tools" if self._tool_use else "response_format"

    def as_requests(self) -> list[GenerationRequest]:
        """What the engine is asked: one request for each choice."""
        schema = self.response_format.held if self.response_format else None
        return [
            GenerationRequest(
                model=self.model,
                prompt=self._prompt,
                max_tokens=self.max_completion_tokens or self.max_tokens,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                frequency_penalty=self.frequency_penalty or 0.0,
                presence_penalty=self.presence_penalty or 0.0,
                seed=seed,
                stop=() if self._tool_use else self.stops,
                logit_bias=self.biases,
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                json_schema=self._tool_use.answer_schema if self._tool_use else schema,
            )
            for seed in self.seeds
        ]

    def read_answer(self) -> PlainAnswer | ToolAnswer:
        """A reader for one answer."""
        if not self._tool_use:
            return PlainAnswer()
        return ToolAnswer(self.stops, json_response=self._tool_use.response is not None)
