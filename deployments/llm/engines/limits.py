"""How long an answer may become, and how many may run at once.

It knows no model: token counts go in, a limit comes out.
"""

from collections.abc import Mapping, Sequence

from deployments.llm.engines.ports import ContextTooLongError, UnsupportedError


def limit_answer(context: int, prompt_tokens: int, asked: int | None, default: int) -> int:
    """Tokens the answer may have. What was asked for must fit; the default is cut to the room that is left.

    Raises ContextTooLongError, and UnsupportedError for a prompt without any token: there is nothing to go on from.
    """
    if not prompt_tokens:
        raise UnsupportedError("The prompt is empty.", "prompt")
    if prompt_tokens + (asked or 1) > context:
        raise ContextTooLongError(context, prompt_tokens, asked or 0)
    return asked or min(default, context - prompt_tokens)


def count_admitted(
    waiting: Sequence[tuple[str, int]],
    running: Mapping[str, Sequence[int]],
    *,
    max_rows: int,
    max_tokens: int,
) -> int:
    """How many from the head of the queue may join. A length is that of the prompt and the longest answer, in tokens.

    `waiting` has model and length, `running` lengths by model. All rows of a model are padded to its longest.
    Nobody overtakes, so nobody waits for ever; who comes when nothing runs is let in, however long.
    """
    batches = {model: list(lengths) for model, lengths in running.items() if lengths}
    for admitted, (model, length) in enumerate(waiting):
        batches.setdefault(model, []).append(length)
        rows = sum(len(lengths) for lengths in batches.values())
        tokens = sum(len(lengths) * max(lengths) for lengths in batches.values())
        if rows > 1 and (rows > max_rows or tokens > max_tokens):
            return admitted
    return len(waiting)
