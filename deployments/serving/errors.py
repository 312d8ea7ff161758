"""What can go wrong at the desk, told apart so that each page and answer can say it properly.

It knows no HTTP and no page.
"""


class ServingError(Exception):
    """Something the user should know; the message says what to do."""


class BadRequest(ServingError):
    """The request itself is wrong: an empty topic, an unknown rating."""


class UnknownModel(BadRequest):
    """Nothing to write with under this name."""


class NotFound(ServingError):
    """No such post."""


class KnowledgeEmpty(ServingError):
    """There is nothing to write from yet."""


class NothingAnswers(ServingError):
    """The knowledge holds nothing on this topic; the message names what comes nearest."""


class Unavailable(ServingError):
    """A component that this needs is down or refuses."""
