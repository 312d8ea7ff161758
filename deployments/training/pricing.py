"""What a fine-tuning job costs: tokens times epochs times the price of a token.

It knows no tokenizer and no provider; the encoder is handed in.
"""

import json
from collections.abc import Callable, Sequence, Sized

# As OpenAI bills chat examples: three tokens frame each message, three prime the answer.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_EXAMPLE = 3


def count_tokens(lines: Sequence[str], encode: Callable[[str], Sized]) -> int:
    """Tokens of one pass over the chat examples, one JSON object a line."""
    total = 0
    for line in lines:
        total += TOKENS_PER_EXAMPLE
        for message in json.loads(line)["messages"]:
            total += TOKENS_PER_MESSAGE + len(encode(message["role"])) + len(encode(message["content"]))
    return total


def price_job(tokens: int, epochs: int, price_per_million: float) -> float:
    """Price of the whole job, in the currency of the price."""
    return tokens * epochs * price_per_million / 1_000_000
