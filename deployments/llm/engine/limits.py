"""How long an answer may become.

It knows no model: token counts go in, a limit comes out.
"""

from deployments.llm.engine.port import ContextTooLongError


def limit_answer(context: int, prompt_tokens: int, asked: int | None, default: int) -> int:
    """Tokens the answer may have. What was asked for must fit; the default is cut to the room that is left."""
    if prompt_tokens + (asked or 1) > context:
        raise ContextTooLongError(context, prompt_tokens, asked or 0)
    return asked or min(default, context - prompt_tokens)
