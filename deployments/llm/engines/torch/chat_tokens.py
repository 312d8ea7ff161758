"""Chat messages as the model reads them: the tokens of a prompt, and of a whole example.

It knows no weights and no limit; trainer and engine both count here, so that neither takes what the other refuses.
"""

from typing import Any

from deployments.llm.engines.ports import Messages


def encode_example(tokenizer: Any, messages: Messages) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the last message, the assistant's. Raises ValueError for an odd chat template."""
    prompt = tokenizer.apply_chat_template(list(messages[:-1]), add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(list(messages), tokenize=False).rstrip("\n")
    if not whole.startswith(prompt):
        raise ValueError(
            "The chat template of this model does not repeat its prompt; it can't be masked by prefix."
        )
    return (
        tokenizer(prompt, add_special_tokens=False)["input_ids"],
        tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"],
    )


def encode_prompt(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of messages that wait for an answer."""
    encoded = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def count_tokens(tokenizer: Any, messages: Messages) -> int:
    """Tokens of an example where the assistant spoke last, else of a prompt."""
    if messages[-1]["role"] == "assistant":
        return sum(map(len, encode_example(tokenizer, messages)))
    return len(encode_prompt(tokenizer, messages))
