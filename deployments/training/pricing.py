"""What a fine-tuning job costs: tokens times epochs times the price of a token.

It knows no tokenizer and no provider; the encoder is handed in.
"""

import json
from collections.abc import Callable, Sequence, Sized

from shared.llm.port import Message

# As OpenAI bills chat examples: three tokens frame each message, three prime the answer.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_EXAMPLE = 3


def count_tokens(lines: Sequence[str], encode: Callable[[str], Sized]) -> int:
    """Tokens of one pass over the chat examples, one JSON object a line."""
    return sum(count_example(json.loads(line)["messages"], encode) for line in lines)


def count_example(messages: Sequence[Message], encode: Callable[[str], Sized]) -> int:
    """Tokens of one chat example."""
    words = sum(len(encode(message["role"])) + len(encode(message["content"])) for message in messages)
    return TOKENS_PER_EXAMPLE + TOKENS_PER_MESSAGE * len(messages) + words


def price_job(tokens: int, epochs: int, price_per_million: float) -> float:
    """Price of the whole job, in the currency of the price."""
    return tokens * epochs * price_per_million / 1_000_000
