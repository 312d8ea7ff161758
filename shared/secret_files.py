"""How a secret lies in its file: one line of UTF-8 text.

It knows not what it opens, and needs nothing but the standard library (`make secrets` runs before any install).
"""

from pathlib import Path


class SecretError(ValueError):
    """A secret file is of no use; the message names it and says what to do, and holds nothing of what is in it."""


def read_secret(path: Path) -> str:
    """The secret, without white space around it; empty where there is no file or nothing in it. Raises SecretError."""
    try:
        secret = path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise SecretError(f"{path} is no UTF-8 text: write the secret into it as one line of text") from None
    except OSError as error:
        raise SecretError(f"{path} can't be read ({error.strerror}): it must be a file of yours") from None
    if any(character < " " or character == "\x7f" for character in secret):
        raise SecretError(f"{path} holds more than one line of text: leave the secret alone in it")
    return secret
