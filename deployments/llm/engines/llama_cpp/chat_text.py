"""Chat messages as text and tokens: the model's chat template, and which special tokens are the template's own.

A special token that stands in somebody's message stays plain text: nobody ends the message from inside of it.
It knows no tokenizer: what it returns is tokenized elsewhere.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from deployments.llm.engines.ports import Messages, UnsupportedError

Mixed = list[str | int]
"""Plain text, in which no special token is looked for, between tokens."""

_CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Characters of the private use areas: one that no message has marks what is plain text.
_MARKS: Final = (range(0xE000, 0xF8FF), range(0xF0000, 0xFFFFD))


class ChatText:
    """The template of one model. `special` are its control tokens by their text."""

    def __init__(
        self, template: str | None, special: Mapping[str, int], bos: str = "", eos: str = ""
    ) -> None:
        self._special = {text: token for text, token in special.items() if text}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        if template is None and "<|im_start|>" in special:
            template = _CHATML
        self._template = _compile(template) if template is not None else None
        self._globals = {"bos_token": bos, "eos_token": eos}

    def write_prompt(self, messages: Messages) -> Mixed:
        """Messages that wait for an answer. Raises UnsupportedError where the template refuses them."""
        marked, mark = self._mark(messages)
        return self._split(self._render(marked, True), mark)

    def write_example(self, messages: Messages) -> tuple[Mixed, Mixed]:
        """The prompt, and the answer that stands last."""
        marked, mark = self._mark(messages)
        prompt = self._render(marked[:-1], True)
        whole = self._render(marked, False).rstrip("\n")
        if not whole.startswith(prompt):
            raise UnsupportedError("The chat template of this model does not repeat its prompt.", "messages")
        return self._split(prompt, mark), self._split(whole[len(prompt) :], mark)

    def split(self, text: str) -> Mixed:
        """Text in which special tokens mean what they say, as a prompt for completion may."""
        return self._split(text, "")

    def _mark(self, messages: Messages) -> tuple[list[dict[str, str]], str]:
        contents = "".join(message["content"] for message in messages)
        if not self._pattern.search(contents):
            return list(messages), ""
        present = set(contents)
        mark = next(chr(code) for code in chain(*_MARKS) if chr(code) not in present)

        def guard(found: re.Match[str]) -> str:
            return found[0][0] + mark + found[0][1:]

        marked = [
            {**message, "content": self._pattern.sub(guard, message["content"])} for message in messages
        ]
        return marked, mark

    def _split(self, text: str, mark: str) -> Mixed:
        parts: Mixed = []
        at = 0
        for found in self._pattern.finditer(text):
            parts += [text[at : found.start()], self._special[found[0]]]
            at = found.end()
        parts.append(text[at:])
        if mark:
            parts = [part.replace(mark, "") if isinstance(part, str) else part for part in parts]
        return [part for part in parts if part != ""]

    def _render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        if self._template is None:
            raise UnsupportedError(
                "This model has no chat template: it takes prompts for completion only.", "messages"
            )
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **self._globals
            )
        except (jinja2.TemplateError, TypeError, KeyError) as error:
            raise UnsupportedError(
                f"The chat template refuses these messages: {error}", "messages"
            ) from error


def _compile(template: str) -> jinja2.Template:
    """As transformers does, so that both engines read the same."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)
