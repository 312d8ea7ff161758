"""The body of a response, and what the engine is asked for it."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from deployments.llm.api.answer_formats import ResponseFormat
from deployments.llm.api.messages import add_instructions
from deployments.llm.api.response_items import InputItems, render_items
from deployments.llm.api.sampling import Metadata, Name, StreamOptions
from deployments.llm.api.tool_answers import PlainAnswer, ToolAnswer
from deployments.llm.api.tools import MAX_TOOLS, Function, Mode, ToolName, ToolUse, choose_tools
from deployments.llm.engines.ports import GenerationRequest
from deployments.llm.routes.strict_body import StrictBody, refuse

LOGPROBS: Literal["message.output_text.logprobs"] = "message.output_text.logprobs"


class FunctionTool(Function):
    """A function to call; other kinds of tools are not known."""

    type: Literal["function"]


class NamedTool(StrictBody):
    """The one function that must be called."""

    type: Literal["function"]
    name: ToolName


class AllowedChoice(StrictBody):
    """A narrower choice of tools."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class TextOptions(StrictBody):
    """The form of the answer."""

    format: ResponseFormat | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(StrictBody):
    """None is done."""

    refused: ClassVar = {"summary": "there is no reasoning.", "generate_summary": "there is no reasoning."}

    effort: Literal["none"] | None = None


class ResponseBody(StrictBody):
    """OpenAI's request body. Nothing is stored, so nothing can be gone on with by an id.

    These can have no effect on an answer here and are let pass: `user`, `metadata`, `safety_identifier`,
    `prompt_cache_key`, `reasoning.encrypted_content` in `include`; and of those that could, the values that ask for
    what is done anyway: `store` false, `background` false, `service_tier` auto or default, `truncation` disabled,
    reasoning effort none, text verbosity medium.
    """

    refused: ClassVar = {
        "previous_response_id": "nothing is stored, send the whole conversation as 'input'.",
        "conversation": "nothing is stored, send the whole conversation as 'input'.",
        "prompt": "no prompts are stored, send 'instructions' and 'input'.",
        "max_tool_calls": "it counts tools of the server's own, and there are none.",
        "context_management": "send what fits the context.",
        "moderation": "nothing is moderated here.",
        "prompt_cache_options": "prompts are cached as the server finds best.",
        "prompt_cache_retention": "prompts are cached as the server finds best.",
        "top_k": "use 'top_p'.",
    }

    model: Name
    input: str | InputItems
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Mode | NamedTool | AllowedChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: Literal[False] | None = None
    background: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    truncation: Literal["disabled"] | None = None
    reasoning: Reasoning | None = None

    _tool_use: ToolUse | None = PrivateAttr(default=None)
    _prompt: list[dict[str, str]] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """What fields say of each other."""
        if self.stream_options is not None and not self.stream:
            raise refuse("'stream_options' needs 'stream': true.", "stream_options")
        if self.stream_options is not None and self.stream_options.include_usage is not None:
            raise refuse("A response always tells its usage: leave it out.", "stream_options.include_usage")
        self._tool_use = self._choose_tools()
        self._prompt = render_items(self.input, self.instructions)
        if self._tool_use:
            self._prompt = add_instructions(self._prompt, self._tool_use.instructions)
        return self

    def _choose_tools(self) -> ToolUse | None:
        choice, named, allowed = self.tool_choice or "auto", None, None
        mode: Mode = "required"
        if isinstance(choice, NamedTool):
            named = choice.name
        elif isinstance(choice, AllowedChoice):
            allowed, mode = [tool.name for tool in choice.tools], choice.mode
        else:
            mode = choice
        return choose_tools(
            self.tools or (),
            mode,
            named=named,
            allowed=allowed,
            parallel=self.parallel_tool_calls is not False,
            response=self._held,
        )

    @property
    def _held(self) -> Any:
        return self.text.format.held if self.text and self.text.format else None

    @property
    def blamed_schema(self) -> str:
        """The parameter that a schema comes from."""
        return "tools" if self._tool_use else "text.format"

    @property
    def wants_logprobs(self) -> bool:
        """Whether tokens are told with their probabilities."""
        return LOGPROBS in (self.include or ()) or self.top_logprobs is not None

    def as_request(self) -> GenerationRequest:
        """What the engine is asked."""
        return GenerationRequest(
            model=self.model,
            prompt=self._prompt,
            max_tokens=self.max_output_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            logprobs=(self.top_logprobs or 0) if self.wants_logprobs else None,
            json_schema=self._tool_use.answer_schema if self._tool_use else self._held,
        )

    def read_answer(self) -> PlainAnswer | ToolAnswer:
        """A reader for the answer."""
        return (
            ToolAnswer(json_response=self._tool_use.response is not None) if self._tool_use else PlainAnswer()
        )
