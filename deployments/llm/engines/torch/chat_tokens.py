"""Chat messages as the model reads them: the tokens of a prompt, and of a whole example.

It knows no weights and no limit; trainer and engine both count here, so that neither takes what the other refuses.
"""

from typing import Any

from deployments.llm.engines.ports import Messages


def encode_example(tokenizer: Any, messages: Messages) -> list[tuple[list[int], bool]]:
    """Token ids in runs: what the assistant is given (False), and what it says (True), in turns; it speaks last.

    Raises ValueError for an odd chat template.
    """
    runs, read = [], ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:index], add_generation_prompt=True)
        whole = _render(tokenizer, messages[: index + 1]).rstrip("\n")
        if not prompt.startswith(read) or not whole.startswith(prompt):
            raise ValueError(
                "The chat template of this model does not repeat its prompt; it can't be masked by prefix."
            )
        for text, said in ((prompt[len(read) :], False), (whole[len(prompt) :], True)):
            runs.append((list(tokenizer(text, add_special_tokens=False)["input_ids"]), said))
        read = whole
    return runs


def encode_prompt(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of messages that wait for an answer."""
    encoded = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def count_tokens(tokenizer: Any, messages: Messages) -> int:
    """Tokens of an example where the assistant spoke last, else of a prompt."""
    if messages[-1]["role"] == "assistant":
        return sum(len(ids) for ids, _ in encode_example(tokenizer, messages))
    return len(encode_prompt(tokenizer, messages))


def _render(tokenizer: Any, messages: Messages, **wishes: bool) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, **wishes))
