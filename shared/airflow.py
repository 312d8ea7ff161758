"""A client of one Airflow deployment's REST API: asset events, Dag runs, pausing.

It knows no Dag and imports no Airflow; httpx starts in a tenth of the time that Airflow's own client takes.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

log = logging.getLogger(__name__)

ATTEMPTS = 4
PAGE = 100
CAUSE_CHARACTERS = 600


class AirflowError(RuntimeError):
    """Airflow refused or can't be reached; the message says what to do."""


class AirflowConflict(AirflowError):
    """There is one already."""


class AirflowUnavailable(AirflowError):
    """Nobody answers, or only for the moment: worth another try, later."""


def find_cause(lines: Sequence[Mapping[str, Any] | str]) -> str:
    """The last exception of a task's log, without its trace, as Airflow's API gives the log; empty where none is."""
    for line in reversed(lines):
        if isinstance(line, Mapping) and (details := line.get("error_detail")):
            return str(details[0]["exc_value"]).strip()[:CAUSE_CHARACTERS]
    return ""


class AirflowApi:
    """Signs in with a user's password; the token is kept, and fetched again when it expires."""

    def __init__(
        self,
        base_url: str,
        user: str,
        password: str,
        timeout: float = 30.0,
        *,
        transport: httpx.BaseTransport | None = None,
        wait_seconds: float = 1.0,
    ) -> None:
        self.base_url, self._user, self._password = base_url.rstrip("/"), user, password
        self._client = httpx.Client(
            base_url=self.base_url, timeout=timeout, transport=transport, trust_env=False
        )
        self._token: str | None = None
        self._wait_seconds = wait_seconds

    def list_dag_runs(self, dag_id: str, limit: int = PAGE) -> list[dict[str, Any]]:
        """The newest runs first, as Airflow's API gives them (`dag_run_id`, `state`, `start_date`, …).

        At most `limit` of them, and never more than the 100 that Airflow gives at once.
        """
        answer = self._call(
            "GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": limit, "order_by": "-id"}
        )
        return cast(list[dict[str, Any]], answer["dag_runs"])

    def list_task_instances(
        self, dag_id: str, run_id: str, *, state: str | None = None
    ) -> list[dict[str, Any]]:
        """All task instances of a run (`task_id`, `map_index`, `state`, …), or those in one state."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        # By id, which grows: a task that is mapped meanwhile moves none to another page.
        wanted = {"order_by": "id", **({"state": state} if state else {})}
        return self._list_all(path, "task_instances", wanted)

    def explain_failure(self, dag_id: str, run_id: str) -> str:
        """`task: what its log says last` of the task that failed first; empty where none failed."""
        tasks = self.list_task_instances(dag_id, run_id, state="failed")
        failed = [task for task in tasks if task["state"] == "failed"]
        if not failed:
            return ""
        first = min(failed, key=lambda task: task["end_date"] or "")
        task_id = str(first["task_id"])
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{first['try_number']}"
        try:
            log_lines = self._call(
                "GET", path, params={"map_index": first["map_index"], "full_content": True}
            )
        except AirflowError:
            return task_id
        cause = find_cause(log_lines["content"])
        return f"{task_id}: {cause}" if cause else task_id

    def list_log_errors(self, dag_id: str, run_id: str, task_id: str) -> list[str]:
        """What a task's last try logged as errors, oldest first."""
        task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        number = self._call("GET", task)["try_number"]
        lines = self._call("GET", f"{task}/logs/{number}", params={"full_content": True})["content"]
        return [
            str(line["event"]) for line in lines if isinstance(line, Mapping) and line.get("level") == "error"
        ]

    def read_xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """What an unmapped task of a run returned, or left under a key. Raises AirflowError where there is nothing."""
        task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return self._call("GET", f"{task}/xcomEntries/{key}")["value"]

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> str:
        """Start a Dag by hand; its run id. With a `run_id` of the caller's, asking again starts no second run."""
        body = {"logical_date": None, "conf": dict(conf or {}), **({"dag_run_id": run_id} if run_id else {})}
        try:
            return cast(str, self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])
        except AirflowConflict:
            if run_id is None:
                raise
            return run_id  # an earlier try arrived, though its answer didn't

    def withdraw(self, dag_id: str, run_id: str) -> None:
        """End a run that still waits in the queue; one that has begun, or is over, is left alone."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        if self._call("GET", path)["state"] == "queued":
            self._call("PATCH", path, json={"state": "failed"})

    def pause(self, dag_id: str) -> None:
        """Stop scheduling a Dag."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        """Schedule a Dag."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def list_import_errors(self) -> list[dict[str, Any]]:
        """Dag files that can't be read."""
        return self._list_all("/api/v2/importErrors", "import_errors", {"order_by": "id"})

    def find_asset(self, uri: str) -> int | None:
        """The asset's id, or None while no Dag that refers to it has been parsed."""
        # `uri_pattern` is a LIKE pattern; `uri` is silently ignored.
        assets = self._list_all("/api/v2/assets", "assets", {"uri_pattern": uri, "order_by": "id"})
        # Airflow stores `scheme://name` as `scheme://name/`.
        wanted = uri.rstrip("/")
        return next((asset["id"] for asset in assets if asset["uri"].rstrip("/") == wanted), None)

    def post_asset_event(self, asset_uri: str, extra: Mapping[str, Any], wait: float = 60.0) -> None:
        """Say that an asset changed. Waits up to `wait` seconds for the asset to be known there.

        Airflow makes an event of each call: put an idempotency key in `extra`, and let consumers derive their work
        from state.
        """
        deadline = time.monotonic() + wait
        while (asset_id := self.find_asset(asset_uri)) is None:
            if time.monotonic() > deadline:
                raise AirflowError(
                    f"{self.base_url} knows no asset {asset_uri}: is a Dag that refers to it parsed there?"
                )
            time.sleep(self._wait_seconds)
        self._call("POST", "/api/v2/assets/events", json={"asset_id": asset_id, "extra": dict(extra)})

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def _list_all(self, path: str, key: str, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All pages of a list: Airflow gives at most 100 at once, and fewer where it is set up so."""
        found: list[dict[str, Any]] = []
        while True:
            page = {**wanted, "limit": PAGE, "offset": len(found)}
            answer = self._call("GET", path, params=page)
            found += answer[key]
            if not answer[key] or len(found) >= (answer.get("total_entries") or 0):
                return found

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(
                multiplier=self._wait_seconds / 2, max=10, jitter=self._wait_seconds / 2
            ),
            retry=retry_if_exception_type(AirflowUnavailable),
            reraise=True,
        )
        return cast(dict[str, Any], retrying(self._call_once, method, path, request))

    def _call_once(self, method: str, path: str, request: dict[str, Any]) -> dict[str, Any]:
        if self._token is None:
            self._token = self._sign_in()
        answer = self._send(method, path, headers={"Authorization": f"Bearer {self._token}"}, **request)
        if answer.status_code == 401:
            self._token = self._sign_in()
            answer = self._send(method, path, headers={"Authorization": f"Bearer {self._token}"}, **request)
        if answer.status_code in (401, 403):
            raise AirflowError(f"{self.base_url} does not allow the user {self._user!r} to {method} {path}.")
        if answer.is_error:
            kind = AirflowConflict if answer.status_code == 409 else AirflowError
            raise kind(
                f"{self.base_url} answered {answer.status_code} to {method} {path}: {answer.text[:300]}"
            )
        return cast(dict[str, Any], answer.json()) if answer.content else {}

    def _sign_in(self) -> str:
        answer = self._send("POST", "/auth/token", json={"username": self._user, "password": self._password})
        if answer.status_code == 401:
            raise AirflowError(
                f"{self.base_url} refused the password of {self._user!r}: check the secrets folder."
            )
        if answer.is_error:
            raise AirflowError(
                f"{self.base_url} answered {answer.status_code} to the sign-in of {self._user!r}."
            )
        return cast(str, answer.json()["access_token"])

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **request)
        except httpx.TransportError as error:
            raise AirflowUnavailable(
                f"{self.base_url} can't be reached ({type(error).__name__}): is Airflow up?"
            ) from error
        if answer.status_code in (429, 500, 502, 503, 504):
            raise AirflowUnavailable(f"{self.base_url} answered {answer.status_code} to {method} {path}.")
        return answer
