"""Asks one host for pages, slowly, as its robots.txt allows, and never more than was asked for.

Every answer is bounded in bytes and in time, whatever the server does. Nothing leads to another host, or to an address
that is not public unless that is allowed: the address is looked at on the open connection, before anything is sent, so
that no name can point elsewhere in between. It knows no sitemap and no document.
"""

import ipaddress
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import httpx
from protego import Protego

from deployments.ingest.connectors.naming import refuse_size
from deployments.ingest.connectors.pacing import Pace
from deployments.ingest.connectors.port import (
    MAX_BYTES,
    DocumentGoneError,
    DocumentUnreadableError,
    DocumentWithheldError,
    SourceUnavailableError,
)
from shared.contracts import LINEAGE_PRODUCER

AGENT: Final = "Ghostwriter"
USER_AGENT: Final = f"{AGENT}/0.1 (+{LINEAGE_PRODUCER})"
TIMEOUT: Final = httpx.Timeout(30, connect=10)
PAGE_SECONDS: Final = 60.0
MAX_REDIRECTS: Final = 5
MAX_ROBOTS_BYTES: Final = 500_000
MAX_CRAWL_DELAY: Final = 60.0
TRIES: Final = 3
MAX_REST: Final = 60.0
FORBIDDEN: Final = "the site's robots.txt asks that it is not read"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class ServerFailedError(DocumentWithheldError):
    """The server fails (5xx) at this address."""


@dataclass(frozen=True)
class Page:
    """An answer. Where `changed` is False there is no content: it is as the one who asked knows it."""

    changed: bool
    content: bytes = b""
    media_type: str = ""  # without parameters, in lower case
    etag: str = ""
    modified: str = ""  # Last-Modified, as it was sent; "" where the page could change again under the same


class Site:
    """The host of `url`. Not for several threads."""

    def __init__(
        self, url: str, pace: Pace, *, allow_private: bool = False, page_seconds: float = PAGE_SECONDS
    ) -> None:
        self._base = urlsplit(url)
        self._pace, self._allow_private, self._seconds = pace, allow_private, page_seconds
        self._robots: Protego | None = None
        self._socket: socket.socket | None = None
        self._client = httpx.Client(
            timeout=TIMEOUT,
            verify=_load_certificates(),
            trust_env=False,  # behind a proxy nobody could tell which address is asked
            limits=httpx.Limits(max_connections=1),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
        )

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    @property
    def sitemaps(self) -> list[str]:
        """Addresses that robots.txt names."""
        return list(self._read_robots().sitemaps)

    def adopt(self, url: str) -> str | None:
        """The address as it is asked for, without fragment and in the site's scheme; None if it is of another host."""
        try:
            parts = urlsplit(urljoin(urlunsplit(self._base), url.strip()))
            port, base_port = _get_port(parts), _get_port(self._base)
        except ValueError:
            return None
        if parts.scheme not in _DEFAULT_PORTS or parts.hostname != self._base.hostname:
            return None
        scheme, netloc = parts.scheme, parts.netloc.rpartition("@")[2]
        if {port, base_port} == {80, 443}:
            scheme, netloc = self._base.scheme, self._base.netloc
        elif port != base_port:
            return None
        return urlunsplit((scheme, netloc, parts.path or "/", parts.query, ""))

    def fetch(
        self,
        url: str,
        *,
        known: Mapping[str, str] | None = None,
        limit: int = MAX_BYTES,
        any_robot: bool = False,
    ) -> Page:
        """The page, of at most `limit` bytes. `known`: headers of a conditional request.

        Raises DocumentGoneError, DocumentWithheldError, DocumentUnreadableError and SourceUnavailableError.
        """
        for _ in range(MAX_REDIRECTS + 1):
            adopted = self.adopt(url)
            if adopted is None:
                raise DocumentUnreadableError(
                    f"it leads to another host, {urlsplit(url).hostname}: not followed"
                )
            if not any_robot and not self.allows(adopted):
                raise DocumentWithheldError(FORBIDDEN)
            answer = self._ask(adopted, known or {}, limit)
            if isinstance(answer, Page):
                return answer
            url = urljoin(adopted, answer)
        raise DocumentUnreadableError(f"it leads on more than {MAX_REDIRECTS} times")

    def allows(self, url: str) -> bool:
        """Whether robots.txt lets the page be read."""
        return bool(self._read_robots().can_fetch(url, AGENT))

    def _read_robots(self) -> Protego:
        if self._robots is None:
            try:
                text = self.fetch("/robots.txt", limit=MAX_ROBOTS_BYTES, any_robot=True).content
            except ServerFailedError as error:  # as RFC 9309 has it: then nothing is allowed
                raise SourceUnavailableError(f"robots.txt of {self._base.hostname}: {error}") from None
            except DocumentUnreadableError:
                text = b""
            self._robots = Protego.parse(text.decode("utf-8", errors="replace"))
            delay = self._robots.crawl_delay(AGENT) or 0
            self._pace.interval = max(self._pace.interval, min(float(delay), MAX_CRAWL_DELAY))
        return self._robots

    def _ask(self, url: str, known: Mapping[str, str], limit: int) -> Page | str:
        """The page, or where it is said to be."""
        for attempt in range(1, TRIES + 1):
            self._pace.wait()
            try:
                with (
                    self._bounded(),
                    self._client.stream(
                        "GET", url, headers=dict(known), extensions={"trace": self._watch}
                    ) as response,
                ):
                    status = response.status_code
                    if status not in (429, 503) or attempt == TRIES:
                        return self._read_answer(response, limit)
                    rest = _read_retry_after(response.headers.get("Retry-After", ""), 2.0**attempt)
            except httpx.HTTPError as error:
                raise SourceUnavailableError(
                    f"{self._base.hostname} can't be reached ({type(error).__name__})"
                ) from error
            self._pace.rest(min(rest, MAX_REST))
        raise AssertionError("unreachable")

    def _read_answer(self, response: httpx.Response, limit: int) -> Page | str:
        status, headers = response.status_code, response.headers
        if status == 304:
            return Page(changed=False)
        if status in (301, 302, 303, 307, 308) and headers.get("Location"):
            return str(headers["Location"])
        if status in (404, 410):
            raise DocumentGoneError(f"the server answers {status}")
        if status == 429:
            raise SourceUnavailableError(f"{self._base.hostname} asks for fewer requests: lower the rate")
        if status >= 500:
            raise ServerFailedError(f"the server answers {status}")
        if status != 200:
            raise DocumentWithheldError(f"the server answers {status}")
        length = headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > limit:
            raise DocumentUnreadableError(_tell_size(int(length), limit))
        return Page(
            changed=True,
            content=_read_body(response, limit),
            media_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            etag=headers.get("ETag", ""),
            modified=_read_modified(headers),
        )

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Whatever goes on inside is cut off in time, even an answer that comes a byte at a time."""
        late = threading.Event()

        def cut() -> None:
            late.set()
            if self._socket is not None:
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

        timer = threading.Timer(self._seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
            if late.is_set():
                raise httpx.ReadTimeout("cut off")
        except (httpx.HTTPError, DocumentUnreadableError):
            if late.is_set():
                raise DocumentUnreadableError(
                    f"it took longer than {self._seconds:g} seconds to arrive"
                ) from None
            raise
        finally:
            timer.cancel()

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by the client at each step of a request."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            stream = info["return_value"]
            self._socket = stream.get_extra_info("socket")
            if event == "connection.connect_tcp.complete" and not self._allow_private:
                try:
                    self._check_address(str(stream.get_extra_info("server_addr")[0]))
                except SourceUnavailableError:
                    stream.close()
                    raise

    def _check_address(self, address: str) -> None:
        if not is_public(address):
            raise SourceUnavailableError(
                f"{self._base.hostname} is at an address that is not public: set allow_private = true if that is meant"
            )


@lru_cache
def _load_certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def is_public(address: str) -> bool:
    """Whether an IP address is anybody's, and none of this machine, its network or its cloud."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


def _get_port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _read_body(response: httpx.Response, limit: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        stream = None
    elif encoding in ("gzip", "x-gzip", "deflate"):
        stream = zlib.decompressobj(47)
    else:
        raise DocumentUnreadableError(f"it comes in an encoding that was not asked for: {encoding[:20]}")
    body = bytearray()
    try:
        for chunk in response.iter_raw():
            body += stream.decompress(chunk, limit + 1 - len(body)) if stream else chunk
            if len(body) > limit:
                raise DocumentUnreadableError(_tell_size(None, limit))
    except zlib.error:
        raise DocumentUnreadableError("it says that it is compressed, and is not") from None
    if stream and not stream.eof:
        raise DocumentUnreadableError("it is compressed, and ends early")
    return bytes(body)


def _read_modified(headers: httpx.Headers) -> str:
    """It counts seconds: a page that changed just now may do so again, and show the same time (RFC 9110, 8.8.2.2)."""
    value = headers.get("Last-Modified", "")
    with suppress(ValueError, TypeError):
        asked = parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
        if asked - parsedate_to_datetime(value).timestamp() > 1:
            return value
    return ""


def _tell_size(size: int | None, limit: int) -> str:
    if size is not None and (message := refuse_size(size)):
        return message
    return f"it has more than {limit:,} bytes: split it"


def _read_retry_after(value: str, usual: float) -> float:
    """Seconds, of a header that holds a number or a date."""
    if value.isdecimal():
        return float(value)
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return usual
