import json

import httpx
import pytest

from shared.airflow import AirflowApi, AirflowError


class FakeAirflow:
    """Answers as Airflow 3.3 does; `assets` maps URI to id."""

    def __init__(self) -> None:
        self.assets: dict[str, int] = {}
        self.events: list[dict] = []
        self.valid = {"token-1"}
        self.tokens = 0
        self.failures = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.failures:
            self.failures -= 1
            return httpx.Response(503)
        if request.url.path == "/auth/token":
            if json.loads(request.content)["password"] != "right":
                return httpx.Response(401)
            self.tokens += 1
            self.valid.add(f"token-{self.tokens}")
            return httpx.Response(201, json={"access_token": f"token-{self.tokens}"})
        if request.headers["Authorization"].removeprefix("Bearer ") not in self.valid:
            return httpx.Response(401)
        if request.url.path == "/api/v2/assets":
            return httpx.Response(200, json={"assets": [{"id": i, "uri": u} for u, i in self.assets.items()]})
        if request.url.path == "/api/v2/assets/events":
            self.events.append(json.loads(request.content))
            return httpx.Response(200, json={})
        return httpx.Response(404, text="no such page")


def connect(server: FakeAirflow, password: str = "right") -> AirflowApi:
    return AirflowApi(
        "http://airflow", "user", password, transport=httpx.MockTransport(server), wait_seconds=0.01
    )


def test_an_event_goes_to_the_asset_of_exactly_that_uri() -> None:
    server = FakeAirflow()
    server.assets = {"ghostwriter://examples_old": 1, "ghostwriter://examples": 2}
    connect(server).post_asset_event("ghostwriter://examples", {"idempotency_key": "k"})
    assert server.events == [{"asset_id": 2, "extra": {"idempotency_key": "k"}}]


def test_an_unknown_asset_is_said_after_the_wait() -> None:
    with pytest.raises(AirflowError, match="knows no asset"):
        connect(FakeAirflow()).post_asset_event("ghostwriter://examples", {}, wait=0.05)


def test_an_expired_token_is_renewed_once() -> None:
    server = FakeAirflow()
    server.assets = {"a://b": 1}
    api = connect(server)
    assert api.find_asset("a://b") == 1
    server.valid.clear()
    assert api.find_asset("a://b") == 1
    assert server.tokens == 2


def test_a_wrong_password_names_the_user_and_is_not_tried_again() -> None:
    with pytest.raises(AirflowError, match="refused the password of 'user'"):
        connect(FakeAirflow(), "wrong").list_dag_runs("x")


def test_a_server_that_is_away_for_a_moment_is_waited_for_and_one_that_stays_away_is_not() -> None:
    server = FakeAirflow()
    server.assets, server.failures = {"a://b": 1}, 2
    assert connect(server).find_asset("a://b") == 1
    server.failures = 100
    with pytest.raises(AirflowError, match="503"):
        connect(server).find_asset("a://b")


def test_other_refusals_carry_what_the_server_said() -> None:
    with pytest.raises(AirflowError, match=r"404.*no such page"):
        connect(FakeAirflow()).list_dag_runs("missing")
