"""The pages of a web site, as its sitemap or its feed lists them.

A page's fingerprint carries what the next listing needs to ask "has it changed?": the date in the list, ETag,
Last-Modified, and a digest of the page. It knows no HTTP beyond that; `polite_http` does.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, field_validator

from deployments.ingest.connectors.naming import is_hidden, name_document
from deployments.ingest.connectors.options import NonEmpty, SourceOptions
from deployments.ingest.connectors.pacing import Pace
from deployments.ingest.connectors.polite_http import FORBIDDEN, Page, ServerFailedError, Site
from deployments.ingest.connectors.port import (
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.connectors.sitemaps import MAX_SITEMAP_BYTES, Entry, SitemapError, read_sitemap
from deployments.ingest.model import Problem, RawDocument, Reference

MAX_SITEMAPS: Final = 500
MAX_FAILURES: Final = 5
"""So many pages in a row that the server fails to give: it is the server, not the pages."""
_MARK: Final = "page:"
_UNREAD: Final = "unread:"
_NO_DATE: Final = "@"
_MAX_PART: Final = 50  # characters of a date, of ETag and of Last-Modified in a fingerprint
ONE_MINUTE: Final = timedelta(minutes=1)
ANYWHERE_ON_EARTH: Final = timedelta(days=2)  # until a day without a zone is over
LISTING_TIME: Final = timedelta(minutes=25)


class Options(SourceOptions):
    """`url`: a sitemap, an index of sitemaps, a feed, or the site itself, whose robots.txt names its sitemap."""

    url: NonEmpty
    requests_per_second: float = Field(default=1.0, gt=0, le=50)
    pages: int = Field(default=1_000, ge=1, le=50_000)  # a site of more is not listed at all
    allow_private: bool = False  # addresses that are not public, such as an intranet's

    @field_validator("url")
    @classmethod
    def _is_web(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("write it like https://docs.example.org/sitemap.xml")
        if parts.username or parts.password:
            raise ValueError("leave user and password out: pages behind a sign-in are not read")
        return url


def build_connector(name: str, options: Options, environment: Environment) -> "WebsiteConnector":
    """The connector of one site."""
    host = quote(urlsplit(options.url).netloc, safe="")
    pace = Pace(environment.state_dir / "ingest" / "pace" / host, 1 / options.requests_per_second)
    return WebsiteConnector(name, options, Site(options.url, pace, allow_private=options.allow_private))


@dataclass(frozen=True)
class Validators:
    """What is known of a page as it was read."""

    changed: str = (
        ""  # as the list had it; with "~" in front where the page may have changed since under the same date
    )
    etag: str = ""
    modified: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, fingerprint: str) -> "Validators":
        """Of a fingerprint that an earlier listing or opening made; of any other, none."""
        parts = fingerprint.removeprefix(_MARK).split("|")
        known = fingerprint.startswith(_MARK) and len(parts) == 4
        return cls(*map(unquote, parts)) if known else cls()

    def write(self) -> str:
        """As a fingerprint."""
        return _MARK + "|".join(
            quote(part, safe=' ":,/+-_.~') for part in (self.changed, self.etag, self.modified, self.digest)
        )

    @property
    def headers(self) -> dict[str, str]:
        """Of a request that asks for the page only if it is another one."""
        return {
            name: value
            for name, value in (("If-None-Match", self.etag), ("If-Modified-Since", self.modified))
            if value
        }


class WebsiteConnector(Connector):
    """Pages of one host. What left a feed stays as long as its page is there."""

    def __init__(
        self,
        name: str,
        options: Options,
        site: Site,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name, self._options, self._site, self._clock = name, options, site, clock
        self._failures = 0

    def close(self) -> None:
        self._site.close()

    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        listed: set[str] = set()
        self._failures = 0
        began = self._clock()
        for entry in self._list_entries(known):
            found = self._list_page(entry, known)
            if found is None or found.uri in listed:
                continue
            listed.add(found.uri)
            if len(listed) > self._options.pages:
                raise SourceUnavailableError(
                    f"{self._options.url} lists more than {self._options.pages:,} pages: raise `pages`, or exclude some"
                )
            if self._clock() - began > LISTING_TIME:
                raise SourceUnavailableError(
                    f"Listing {self._options.url} takes longer than {LISTING_TIME}: raise `requests_per_second`, or "
                    "exclude some pages"
                )
            yield found

    def _list_entries(self, known: Mapping[str, str]) -> Iterator[Entry]:
        """All pages that the sitemaps name, each sitemap once; or those of the feed, and those that have left it."""
        start = self._site.adopt(self._options.url) or self._options.url
        waiting, seen, read = [start], {start}, 0
        while waiting:
            url = waiting.pop()
            read += 1
            if read > MAX_SITEMAPS:
                raise SourceUnavailableError(
                    f"{self._options.url} leads to more than {MAX_SITEMAPS} sitemaps"
                )
            try:
                content = self._site.fetch(url, limit=MAX_SITEMAP_BYTES).content
                sitemap = read_sitemap(content)
            except (DocumentUnreadableError, SitemapError) as error:
                raise SourceUnavailableError(f"{url} can't be read: {error}") from error
            if sitemap.kind in ("index", "other"):
                further = [entry.url for entry in sitemap.entries]
                if sitemap.kind == "other":
                    if url != start:
                        raise SourceUnavailableError(f"{url} is no sitemap")
                    further = self._site.sitemaps or ["/sitemap.xml"]
                fresh = [one for one in map(self._site.adopt, further) if one and one not in seen]
                seen.update(fresh)
                waiting += fresh
                continue
            yield from sitemap.entries
            if sitemap.kind == "feed":
                named = {self._site.adopt(entry.url) for entry in sitemap.entries}
                yield from (Entry(key, "") for key in known if key not in named)

    def _list_page(self, entry: Entry, known: Mapping[str, str]) -> Reference | Problem | None:
        url = self._site.adopt(entry.url)
        try:
            path = name_page(url or entry.url)
        except ValueError:
            path = quote(entry.url, safe="")
        if is_hidden(path) or not self._options.wants(path):
            return None
        uri = name_document(self._name, path)
        if isinstance(uri, Problem):
            return uri
        if url is None:
            return Problem(uri, "it is a page of another host: declare that site as a source of its own")
        if not self._site.allows(url):
            return Problem(uri, FORBIDDEN)
        earlier = known.get(url)
        if earlier is None:
            # Read when it is opened. One that could not be read is tried again tomorrow, or when its date changes.
            since = entry.changed[:_MAX_PART] or f"{_NO_DATE}{self._clock().date()}"
            return self._refer(uri, url, f"{_UNREAD}{since}")
        before = Validators.parse(earlier)
        if entry.changed and entry.changed[:_MAX_PART] == before.changed:
            return self._refer(uri, url, earlier)
        try:
            page = self._site.fetch(url, known=before.headers)
        except DocumentGoneError:
            return None
        except ServerFailedError as error:
            self._failures += 1
            if self._failures == MAX_FAILURES:
                raise SourceUnavailableError(f"{self._options.url}: {error}, again and again") from error
            return Problem(uri, str(error))
        except DocumentUnreadableError as error:
            return Problem(uri, str(error))
        self._failures = 0
        if page.changed and _digest(page.content) != before.digest:
            return self._refer(uri, url, self._describe(page, entry.changed).write())
        noted = replace(before, changed=self._note(entry.changed) or before.changed)
        return self._refer(uri, url, noted.write())

    def _refer(self, uri: str, url: str, fingerprint: str) -> Reference:
        return Reference(uri, self._name, url, fingerprint, place=url)

    def _describe(self, page: Page, changed: str) -> Validators:
        etag, modified = (
            part if len(part) <= _MAX_PART and part.isascii() and part.isprintable() else ""
            for part in (page.etag, page.modified)
        )
        return Validators(self._note(changed), etag, modified, _digest(page.content))

    def _note(self, changed: str) -> str:
        """A date of the list, as a fingerprint has it: it proves nothing before it is over."""
        changed = changed[:_MAX_PART]
        try:
            date = datetime.fromisoformat(changed)
        except ValueError:
            return changed and f"~{changed}"
        over = date + ONE_MINUTE if date.tzinfo else date.replace(tzinfo=UTC) + ANYWHERE_ON_EARTH
        return changed if self._clock() > over else f"~{changed}"

    def open_document(self, reference: Reference) -> RawDocument:
        page = self._site.fetch(reference.key)
        listed = reference.fingerprint
        if listed.startswith(_UNREAD):
            changed = listed.removeprefix(_UNREAD)
            changed = "" if changed.startswith(_NO_DATE) else changed
        else:
            changed = Validators.parse(listed).changed.removeprefix("~")
        fingerprint = self._describe(page, changed).write()
        opened = replace(reference, fingerprint=fingerprint, size=len(page.content))
        digest = sha256(page.content).hexdigest()
        return RawDocument(opened, page.content, digest, page.media_type or reference.media_type)


def name_page(url: str) -> str:
    """The path of a page in its source: `docs/start.html`, `index` for the site's own, with its query."""
    parts = urlsplit(url)
    path = parts.path.strip("/") or "index"
    return f"{path}?{parts.query}" if parts.query else path


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]
