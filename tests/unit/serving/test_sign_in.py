"""Who may use the desk, over a clock of the test."""

import pytest

from deployments.serving.sign_in import GUESSES, SECONDS_PER_GUESS, SESSION_SECONDS, SignIns, TooManyGuesses


class Office:
    """A password and a clock that a test may change."""

    def __init__(self) -> None:
        self.password, self.now = "right", 0.0
        self.sign_ins = SignIns("admin", lambda: self.password, lambda: self.now)

    def guess(self, password: str, address: str = "10.0.0.1") -> bool:
        return self.sign_ins.check("admin", password, address)


@pytest.fixture
def office() -> Office:
    return Office()


def exhaust(office: Office, address: str = "10.0.0.1") -> None:
    for number in range(GUESSES):
        assert not office.guess(f"wrong {number}", address)


def test_an_address_out_of_guesses_waits_for_each_more(office: Office) -> None:
    exhaust(office)
    with pytest.raises(TooManyGuesses) as refused:
        office.guess("right")
    assert refused.value.seconds == SECONDS_PER_GUESS
    office.now += SECONDS_PER_GUESS
    assert not office.guess("wrong again")
    with pytest.raises(TooManyGuesses):
        office.guess("right")
    office.now += SECONDS_PER_GUESS
    assert office.guess("right")


def test_other_addresses_may_sign_in_meanwhile(office: Office) -> None:
    exhaust(office)
    assert office.guess("right", "10.0.0.2")


def test_a_script_with_an_old_password_shuts_nobody_out(office: Office) -> None:
    for _ in range(10 * GUESSES):
        assert not office.guess("old")
    assert office.guess("right")
    office.password = "old"  # and it may become the right one
    assert office.guess("old")


def test_right_passwords_are_never_counted(office: Office) -> None:
    assert all(office.guess("right") for _ in range(10 * GUESSES))


def test_what_is_remembered_is_bounded(office: Office) -> None:
    token = office.sign_ins.open_session()
    for number in range(3000):
        office.guess("wrong", f"10.1.{number // 250}.{number % 250}")
        office.sign_ins.open_session()
    kept = [len(value) for value in vars(office.sign_ins).values() if isinstance(value, dict)]
    assert kept and max(kept) <= 1000
    assert office.sign_ins.find_user(token) is None  # the oldest went


@pytest.mark.parametrize("password", ["", " "])
def test_nobody_signs_in_where_there_is_no_password(office: Office, password: str) -> None:
    office.password = ""
    assert not office.guess(password)
    assert office.sign_ins.find_user(office.sign_ins.open_session()) is None


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !", "Bearer YWRtaW46cmlnaHQ=", "Basic YWRtaW5yaWdodA==", "Basic gA=="]
)
def test_headers_that_hold_no_password(office: Office, header: str) -> None:
    assert not office.sign_ins.check_basic(header, "10.0.0.1")


def test_older_clients_write_basic_in_latin_1(office: Office) -> None:
    office.password = "Füße"
    assert office.sign_ins.check_basic("Basic YWRtaW46RsO8w59l", "10.0.0.1")
    assert office.sign_ins.check_basic("basic YWRtaW46RvzfZQ==", "10.0.0.1")


def test_sessions_end_by_themselves(office: Office) -> None:
    token = office.sign_ins.open_session()
    office.now = SESSION_SECONDS
    assert office.sign_ins.find_user(token) == "admin"
    office.now += 1
    assert office.sign_ins.find_user(token) is None
    assert office.sign_ins.find_user(None) is None
