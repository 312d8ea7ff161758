"""Who may use the desk: one user with one password, sessions that end with it, and a limit on guessing.

It knows no route and no page. All is kept in memory, within bounds: a restart ends every session.
"""

import base64
import hmac
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

GUESSES = 10  # wrong ones an address may make at once
SECONDS_PER_GUESS = 6.0  # and how soon it may make one more
SESSION_SECONDS = 7 * 24 * 3600.0
_MAX_ADDRESSES = 1000
_MAX_SESSIONS = 1000


class TooManyGuesses(Exception):
    """No password is looked at for `seconds`, be it right or wrong."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many wrong passwords from this address. Try again in {seconds} seconds.")
        self.seconds = seconds


@dataclass
class _Guesses:
    count: float = 0.0
    at: float = 0.0
    wrong: deque[bytes] = field(default_factory=lambda: deque(maxlen=GUESSES))


@dataclass(frozen=True)
class _Session:
    seal: bytes
    ends: float


class SignIns:
    """One for the process; may be used by many threads at once."""

    def __init__(
        self, user: str, read_password: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.user, self._read_password, self._clock = user, read_password, clock
        # Two desks on one host would overwrite each other's cookie, since cookies know no port.
        self.cookie = f"ghostwriter-{secrets.token_hex(4)}"
        self._key, self._lock = secrets.token_bytes(32), threading.Lock()
        self._guesses: OrderedDict[str, _Guesses] = OrderedDict()
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def check(self, user: str, password: str, address: str) -> bool:
        """In constant time, and never for an empty password. Raises TooManyGuesses."""
        expected = self._read_password()
        given = self._seal("guess", user, password, expected)
        with self._lock:
            guesses = self._find_guesses(address)
            # The same mistake again is no guess: a forgotten script doesn't shut its machine out.
            if given in guesses.wrong:
                return False
            if guesses.count > GUESSES - 1:
                raise TooManyGuesses(ceil((guesses.count - GUESSES + 1) * SECONDS_PER_GUESS))
            same_user = hmac.compare_digest(user.encode(), self.user.encode())
            if hmac.compare_digest(_fold(password), _fold(expected)) and same_user and expected:
                return True
            guesses.count += 1
            guesses.wrong.append(given)
            return False

    def check_basic(self, header: str, address: str) -> bool:
        """The same for an `Authorization` header of HTTP Basic, in UTF-8 or, from older clients, Latin-1."""
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            raw = base64.b64decode(encoded.strip(), validate=True)
        except ValueError:
            return False
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        user, colon, password = text.partition(":")
        return bool(colon) and self.check(user, password, address)

    def open_session(self) -> str:
        """A token for who has just signed in; it ends when the password changes."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[self._seal("token", token)] = _Session(
                self._seal("session", self._read_password()), self._clock() + SESSION_SECONDS
            )
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return token

    def find_user(self, token: str | None) -> str | None:
        """Whose session this is; None once it has ended."""
        password = self._read_password()
        with self._lock:
            session = self._sessions.get(self._seal("token", token or ""))
        if session is None or not password or self._clock() > session.ends:
            return None
        return self.user if hmac.compare_digest(session.seal, self._seal("session", password)) else None

    def close_session(self, token: str | None) -> None:
        """Sign out; nothing to do for a session that has ended."""
        with self._lock:
            self._sessions.pop(self._seal("token", token or ""), None)

    def _find_guesses(self, address: str) -> _Guesses:
        now = self._clock()
        guesses = self._guesses.setdefault(address, _Guesses(at=now))
        self._guesses.move_to_end(address)
        if len(self._guesses) > _MAX_ADDRESSES:
            self._guesses.popitem(last=False)
        guesses.count = max(0.0, guesses.count - (now - guesses.at) / SECONDS_PER_GUESS)
        guesses.at = now
        return guesses

    def _seal(self, *parts: str) -> bytes:
        # Nothing that is kept tells a password or a token, even to who can read this process's memory dump later.
        return hmac.digest(self._key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256")


def _fold(password: str) -> bytes:
    # One way to write an umlaut: keyboards and files differ in it.
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
