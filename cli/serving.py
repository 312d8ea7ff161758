"""Client of the serving deployment's HTTP API.

It knows no command line and no other component.
"""

from collections.abc import Sequence
from typing import Any

import httpx

from cli.output import CommandError

NOTE_HEADER = "X-Ghostwriter-Note"


class NothingAnswersError(CommandError):
    """The knowledge has nothing on the topic; a post can be written from what comes nearest."""


class ServingClient:
    """Signs in as `user`; every call gives up after `timeout` seconds. All raise CommandError."""

    def __init__(
        self,
        base_url: str,
        user: str,
        password: str,
        *,
        timeout: float,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.base_url,
            auth=(user, password),
            timeout=httpx.Timeout(timeout, connect=5),
            transport=transport,
            # The stack is local: a proxy of the environment must not see its passwords.
            trust_env=False,
        )

    def write(self, topic: str, model: str, *, anyway: bool = False) -> dict[str, Any]:
        """Write a post; keys post_id, text, model, prompt_version, sources, seconds, note (on the model's choice).

        Raises NothingAnswersError where the knowledge has nothing on the topic, unless `anyway`.
        """
        body = {"topic": topic, "model": model} | ({"allow_unsupported": True} if anyway else {})
        answer = self._request("POST", "/api/posts", json=body)
        return answer.json() | {"note": answer.headers.get(NOTE_HEADER, "")}

    def audit(self, post_id: str) -> dict[str, Any]:
        """The chain behind a post: model and sources with their runs."""
        return self._send("GET", f"/api/posts/{post_id}/audit")

    def describe_knowledge(self) -> dict[str, Any]:
        """Counts of documents and chunks, by source too, the newest version, and the files that can't be used."""
        return self._send("GET", "/api/knowledge")

    def sync_knowledge(self, accept: Sequence[str] = ()) -> dict[str, Any]:
        """Start a run of ingest over every source; its `run`. `accept` holds digests of removals."""
        return self._send("POST", "/api/knowledge/sync", json={"accept_removals": list(accept)})

    def _send(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        return self._request(method, path, **arguments).json()

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.TimeoutException as error:
            raise CommandError(
                f"Serving at {self.base_url} took too long to answer: "
                "`ghostwriter stack status` shows what is busy or down."
            ) from error
        except httpx.HTTPError as error:
            raise CommandError(
                f"Serving at {self.base_url} can't be reached: is the stack up? make up"
            ) from error
        if answer.is_success:
            return answer
        if answer.status_code == 409 and _read_code(answer) == "nothing_answers":
            raise NothingAnswersError(self._explain(answer))
        raise CommandError(self._explain(answer))

    def _explain(self, answer: httpx.Response) -> str:
        if answer.status_code in (401, 403):
            return (
                f"Serving at {self.base_url} refused the password: "
                "STATE_DIR or GHOSTWRITER_SECRETS_DIR names another stack's secrets."
            )
        try:
            body = answer.json()
            detail = body.get("error") or body.get("detail") or body
            if isinstance(detail, dict):
                detail = detail.get("message") or detail
        except (ValueError, AttributeError):
            detail = answer.text[:200]
        return f"{detail}" if answer.status_code < 500 else f"Serving failed ({answer.status_code}): {detail}"


def _read_code(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
