"""Lets requests in by key, scope and limits, and none once the server stops or has too many.

It reads no file and knows no route's work.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import HTTPConnection

from deployments.llm.errors import CodedRefusal
from deployments.llm.keyring import Key, Keyring
from deployments.llm.quotas import Excess, Quotas
from deployments.llm.request_notes import get_notes
from deployments.llm.scopes import find_scope
from deployments.llm.settings import LlmSettings
from shared.admission import Refusal, Rule

_FORM_BYTES: Final = 64 * 1024
"""What an upload's form may add to the file itself."""
_STOPPING: Final = "The server is stopping; try again in a moment."
_CROWDED: Final = "Too many requests run; try again in a moment."
_WAIT: Final = {"Retry-After": "5"}


def build_rules(settings: LlmSettings) -> Mapping[str, Rule]:
    """The longest body by path, and what is open."""
    return {
        "/": Rule(settings.llm_max_body_bytes),
        "/health": Rule(0, open=True),
        "/ready": Rule(0, open=True),
        "/v1/files": Rule(settings.llm_max_file_bytes + _FORM_BYTES),
    }


def build_check(
    keyring: Keyring, quotas: Quotas, is_stopping: Callable[[], bool], is_crowded: Callable[[], bool]
) -> Callable[[HTTPConnection], Awaitable[None]]:
    """The check of `shared.admission`: it raises Refusal, or notes who asks and lets the request in."""

    async def check(connection: HTTPConnection) -> None:
        if is_stopping():
            raise Refusal(503, _STOPPING, _WAIT)
        if is_crowded():
            raise CodedRefusal(
                503, _CROWDED, code="too_many_requests", kind="server_error", headers={"Connection": "close"}
            )
        if keyring.open:
            return
        scheme, _, given = connection.headers.get("Authorization", "").partition(" ")
        # Latin-1 gives back the bytes as they were sent.
        key = keyring.find(given.encode("latin-1")) if scheme.lower() == "bearer" else None
        if key is None:
            raise Refusal(401, "Incorrect API key: send `Authorization: Bearer <key>`.")
        notes = get_notes()
        if notes:
            notes.key = key.name
        scope = find_scope(connection.scope.get("method", "GET"), connection.scope["path"])
        if scope and scope not in key.scopes:
            message = f"The key {key.name} is not good for this: it needs the scope `{scope}`."
            raise CodedRefusal(403, message, code="insufficient_scope", kind="invalid_request_error")
        if excess := quotas.admit(key):
            raise _refuse(key, excess, quotas)
        if notes:
            notes.headers.update(quotas.describe(key))
            notes.when_spent.append(lambda tokens: quotas.spend(key, tokens))
            notes.at_end.append(lambda: quotas.release(key))

    return check


def _refuse(key: Key, excess: Excess, quotas: Quotas) -> CodedRefusal:
    headers = {"Retry-After": str(excess.seconds), **quotas.describe(key)}
    message = f"The key {key.name} may have {excess.allowed} {excess.limit}; try again in {excess.seconds} s."
    if excess.lasting:
        # OpenAI's clients would try again in a second, and again.
        headers["x-should-retry"] = "false"
        return CodedRefusal(
            429, message, code="insufficient_quota", kind="insufficient_quota", headers=headers
        )
    return CodedRefusal(429, message, code="rate_limit_exceeded", kind="requests", headers=headers)
