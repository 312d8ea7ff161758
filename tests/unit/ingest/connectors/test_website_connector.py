"""A web site as a source: the contract on sites that tell ETags, dates or nothing, and what sites can do."""

import gzip
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.ingest.connectors import polite_http
from deployments.ingest.connectors.pacing import Pace
from deployments.ingest.connectors.polite_http import Site
from deployments.ingest.connectors.port import (
    Connector,
    DocumentUnreadableError,
    DocumentWithheldError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.connectors.registry import build_connector
from deployments.ingest.connectors.website import Options, WebsiteConnector, name_page
from deployments.ingest.model import Source
from tests.connector_contract import TEXTS, ConnectorContract, Place, remember
from tests.unit.ingest.connectors.web_server import Answer, WebServer, run_web_server

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def write_sitemap(
    *urls: str, changed: Mapping[str, str] | None = None, kind: str = "urlset", entry: str = "url"
) -> str:
    dates = {url: f"<lastmod>{date}</lastmod>" for url, date in (changed or {}).items()}
    entries = "".join(f"<{entry}><loc>{url}</loc>{dates.get(url, '')}</{entry}>" for url in urls)
    return (
        f'<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</{kind}>'
    )


def write_index(*urls: str) -> str:
    return write_sitemap(*urls, kind="sitemapindex", entry="sitemap")


class WebsitePlace(Place):
    tells_size_before_opening = False

    def __init__(self, web: WebServer, folder: Path) -> None:
        self.web, self.environment = web, Environment(folder, folder, "", lambda name: "")
        self.options: dict[str, object] = {
            "url": f"{web.url}/sitemap.xml", "requests_per_second": 50, "allow_private": True,
        }  # fmt: skip
        self.changed: dict[str, str] = {}
        self.now: datetime | None = None
        self.pages: list[str] = []
        self.list_pages()

    def list_pages(self) -> None:
        urls = [f"{self.web.url}/{path}" for path in self.pages]
        dates = {f"{self.web.url}/{path}": date for path, date in self.changed.items()}
        self.web.put("/sitemap.xml", write_sitemap(*urls, changed=dates), "application/xml")

    def connect(self) -> Connector:
        if self.now is None:
            return build_connector(Source("docs", "website", tuple(self.options.items())), self.environment)
        options = Options.model_validate(self.options)
        pace = Pace(self.environment.state_dir / "pace", 0)
        now = self.now
        return WebsiteConnector("docs", options, Site(options.url, pace, allow_private=True), lambda: now)

    def save(self, documents: Mapping[str, bytes]) -> None:
        for path, content in documents.items():
            self.web.put(f"/{path}", content)
            self.pages = sorted({*self.pages, path})
        self.list_pages()

    def delete(self, path: str) -> None:
        del self.web.answers[f"/{path}"]
        self.pages.remove(path)
        self.list_pages()

    def break_listing(self) -> None:
        self.web.put("/part.xml", self.web.answers["/sitemap.xml"].body)  # type: ignore[union-attr]
        self.web.put("/sitemap.xml", write_index(f"{self.web.url}/broken.xml", f"{self.web.url}/part.xml"))
        self.web.answers["/broken.xml"] = Answer(status=500)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with run_web_server() as server:
        yield server


@pytest.fixture
def place(web: WebServer, tmp_path: Path) -> WebsitePlace:
    return WebsitePlace(web, tmp_path)


class TestWebsiteConnector(ConnectorContract):
    @pytest.fixture(params=["etag", "modified", "etag and modified", "nothing"])
    def place(self, request: pytest.FixtureRequest, web: WebServer, tmp_path: Path) -> WebsitePlace:
        web.tells = set(request.param.split(" and "))
        return WebsitePlace(web, tmp_path)


def read_all(place: WebsitePlace) -> dict[str, str]:
    """What a first sync remembers."""
    known = {}
    for reference in place.list().values():
        place.open(reference)
        known[reference.key] = place.opened_fingerprint
    return known


def test_pages_carry_their_type_and_place(place: WebsitePlace) -> None:
    place.save({"docs/start.html": b"<p>hi</p>"})
    reference = place.list()["docs/start.html"]
    raw = place.connect().open_document(reference)
    assert raw.media_type == "text/html" and reference.place == f"{place.web.url}/docs/start.html"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://x.org", "index"), ("https://x.org/", "index"), ("https://x.org/docs/", "docs"),
        ("https://x.org/a/b.html?page=2", "a/b.html?page=2"),
    ],
)  # fmt: skip
def test_a_page_is_called_by_its_path(url: str, path: str) -> None:
    assert name_page(url) == path


def test_it_says_who_it_is_and_asks_only_for_what_changed(place: WebsitePlace) -> None:
    place.save(TEXTS)
    known = read_all(place)
    place.web.asked.clear()
    assert remember(place.list(known)) == known
    pages = [headers for path, headers in place.web.asked if path.lstrip("/") in TEXTS]
    assert len(pages) == 3 and all("if-none-match" in headers for headers in pages)
    assert all("Ghostwriter" in headers["user-agent"] for _, headers in place.web.asked)


def test_a_date_in_the_sitemap_saves_the_request_once_it_is_over(place: WebsitePlace) -> None:
    place.save(TEXTS)
    place.changed = {
        "one.md": "2026-11-20",
        "two.txt": "2026-11-24",
        "three.html": "2026-11-24T11:00:00+00:00",
    }
    place.list_pages()
    place.now = NOON
    known = read_all(place)
    place.web.asked.clear()
    assert remember(place.list(known)) == known
    asked = {path for path, _ in place.web.asked}
    assert "/one.md" not in asked and "/three.html" not in asked and "/two.txt" in asked
    # When the day is over, the page is read once more, and not asked for after that.
    place.now = NOON + timedelta(days=3)
    again = remember(place.list(known))
    assert {key for key in known if again[key] != known[key]} == {f"{place.web.url}/two.txt"}
    place.web.asked.clear()
    assert remember(place.list(again)) == again and "/two.txt" not in {path for path, _ in place.web.asked}


def test_a_page_that_changed_shows_by_its_new_date(place: WebsitePlace) -> None:
    place.save(TEXTS)
    place.changed, place.now = {"one.md": "2026-11-20"}, NOON
    place.list_pages()
    known = read_all(place)
    place.save({"one.md": b"# New"})
    place.changed = {"one.md": "2026-11-21"}
    place.list_pages()
    changed = {key for key, mark in remember(place.list(known)).items() if known[key] != mark}
    assert changed == {f"{place.web.url}/one.md"}


def test_a_page_that_could_not_be_read_is_tried_again_the_next_day(place: WebsitePlace) -> None:
    place.save(TEXTS)
    place.now = NOON
    today = remember(place.list())
    assert remember(place.list()) == today
    place.now = NOON + timedelta(days=1)
    assert not set(remember(place.list()).values()) & set(today.values())


def test_an_index_leads_to_sitemaps_also_zipped_ones(place: WebsitePlace) -> None:
    place.save(TEXTS)
    url = place.web.url
    place.web.put(
        "/a.xml.gz",
        gzip.compress(write_sitemap(f"{url}/one.md", f"{url}/two.txt").encode()),
        "application/gzip",
    )
    place.web.put("/b.xml", write_sitemap(f"{url}/two.txt", f"{url}/three.html#part"))
    place.web.put("/deep.xml", write_index(f"{url}/b.xml"))
    place.web.put("/sitemap.xml", write_index(f"{url}/a.xml.gz", f"{url}/deep.xml"))
    assert set(place.list()) == set(TEXTS)  # a page that stands in two is listed once


def test_of_two_pages_with_one_uri_the_first_is_listed(place: WebsitePlace) -> None:
    place.save({"docs": b"docs"})
    url = place.web.url
    place.web.put("/docs/", "docs, with a slash")
    place.web.put("/sitemap.xml", write_sitemap(f"{url}/docs", f"{url}/docs/", f"{url}/docs#top"))
    assert place.open(place.list()["docs"]) == b"docs"


def test_a_sitemap_of_itself_is_read_once(place: WebsitePlace) -> None:
    place.save({"one.md": b"x"})
    url = place.web.url
    place.web.put("/pages.xml", write_sitemap(f"{url}/one.md"))
    place.web.put("/other.xml", write_index(f"{url}/sitemap.xml"))
    place.web.put(
        "/sitemap.xml", write_index(*[f"{url}/{name}.xml" for name in ("sitemap", "other", "pages")])
    )
    assert set(place.list()) == {"one.md"} and place.web.count("/sitemap.xml") == 1


def test_sitemaps_without_an_end_are_ended(place: WebsitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(10**9))

    class EndlessAnswers(dict[str, Answer]):
        def get(self, path: str, default: object = None) -> Answer:  # type: ignore[override]
            return Answer(write_index(f"{place.web.url}/{next(numbers)}.xml").encode())

    place.web.answers = EndlessAnswers({"/robots.txt": Answer(status=404)})  # type: ignore[assignment]
    monkeypatch.setattr("deployments.ingest.connectors.website.MAX_SITEMAPS", 20)
    with pytest.raises(SourceUnavailableError, match="more than 20 sitemaps"):
        place.look()


def test_a_site_of_more_pages_than_allowed_is_not_listed_in_part(place: WebsitePlace) -> None:
    place.save({f"{number}.md": b"x" for number in range(4)})
    place.options["pages"] = 3
    with pytest.raises(SourceUnavailableError, match="raise `pages`"):
        place.look()
    place.options["exclude"] = ["0.md"]
    assert set(place.list()) == {"1.md", "2.md", "3.md"}


@pytest.mark.parametrize("start", ["", "/", "/docs/"])
def test_the_site_itself_leads_to_its_sitemap(place: WebsitePlace, start: str) -> None:
    place.save(TEXTS)
    place.web.put("/", "<!DOCTYPE html><html><body>Welcome<br></body></html>")
    place.web.put("/docs/", "no <markup at all")
    place.options["url"] = f"{place.web.url}{start}"
    assert set(place.list()) == set(TEXTS)
    place.web.answers["/elsewhere.xml"] = place.web.answers.pop("/sitemap.xml")
    with pytest.raises(SourceUnavailableError, match=r"sitemap\.xml"):
        place.look()
    place.web.put("/robots.txt", f"Sitemap: {place.web.url}/elsewhere.xml")
    assert set(place.list()) == set(TEXTS)


RSS = '<?xml version="1.0"?><rss version="2.0"><channel><title>t</title>{}</channel></rss>'
ATOM = '<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>t</title>{}</feed>'


def write_rss(*urls: str) -> str:
    return RSS.format(
        "".join(
            f"<item><link>{u}</link><pubDate>Fri, 20 Nov 2026 10:00:00 GMT</pubDate></item>" for u in urls
        )
    )


def write_atom(*urls: str) -> str:
    return ATOM.format(
        "".join(
            f'<entry><id>{u}</id><link href="{u}"/><updated>2026-11-20T10:00:00Z</updated></entry>'
            for u in urls
        )
    )


@pytest.mark.parametrize("write", [write_rss, write_atom])
def test_what_left_a_feed_stays_until_its_page_is_gone(
    place: WebsitePlace, write: Callable[..., str]
) -> None:
    place.save(TEXTS)
    place.now = NOON
    urls = [f"{place.web.url}/{path}" for path in TEXTS]
    place.web.put("/feed", write(*urls))
    place.options["url"] = f"{place.web.url}/feed"
    known = read_all(place)
    assert set(known) == set(urls) and all("2026-11-20T10:00:00" in mark for mark in known.values())
    place.web.asked.clear()
    place.web.put("/feed", write(urls[0]))
    assert remember(place.list(known)) == known
    assert {path for path, _ in place.web.asked} == {"/robots.txt", "/feed", "/two.txt", "/three.html"}
    del place.web.answers["/two.txt"]
    assert set(place.list(known)) == {"one.md", "three.html"}


def test_robots_txt_is_obeyed(place: WebsitePlace) -> None:
    place.save({**TEXTS, "private/a.md": b"a"})
    place.web.put(
        "/robots.txt", "User-agent: *\nDisallow: /\n\nUser-agent: ghostwriter\nDisallow: /private/\n"
    )
    found, problems = place.look()
    assert set(found) == set(TEXTS) and "robots.txt" in problems["private/a.md"].message
    place.web.put("/robots.txt", "User-agent: *\nDisallow: /two.txt\n")
    with pytest.raises(DocumentWithheldError, match=r"robots\.txt"):
        place.open(found["two.txt"])
    assert place.web.count("/private/a.md") == place.web.count("/two.txt") == 0
    place.web.answers["/robots.txt"] = Answer(status=503)
    with pytest.raises(SourceUnavailableError, match=r"robots\.txt"):
        place.look()
    place.web.answers["/robots.txt"] = Answer(status=403)
    assert set(place.list()) == {*TEXTS, "private/a.md"}


def test_a_page_of_another_host_is_named_and_not_asked_for(place: WebsitePlace) -> None:
    place.save(TEXTS)
    urls = (
        "http://example.org/x.md",
        "ftp://127.0.0.1/y.md",
        "file:///etc/passwd",
        "http://127.0.0.1:1/z.md",
        "http://[::1",
        "/one.md",
    )
    place.web.put("/sitemap.xml", write_sitemap(*urls))
    found, problems = place.look()
    assert set(found) == {"one.md"} and set(problems) == {
        "x.md",
        "y.md",
        "etc/passwd",
        "z.md",
        "http%3A%2F%2F%5B%3A%3A1",
    }
    assert all("another host" in problem.message for problem in problems.values())


def test_a_redirect_is_followed_within_the_host_alone(place: WebsitePlace) -> None:
    place.save(TEXTS)
    listed = place.list()
    elsewhere = (
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/x",
        "file:///etc/passwd",
        "//x.org/",
    )
    for target in elsewhere:
        place.web.answers["/one.md"] = Answer(status=302, headers={"Location": target})
        with pytest.raises(DocumentUnreadableError, match="another host"):
            place.open(listed["one.md"])
    place.web.answers["/one.md"] = Answer(status=301, headers={"Location": "two.txt"})
    assert place.open(listed["one.md"]) == TEXTS["two.txt"]
    place.web.answers["/one.md"] = Answer(status=301, headers={"Location": "/one.md"})
    with pytest.raises(DocumentUnreadableError, match="leads on"):
        place.open(listed["one.md"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_that_is_not_public_is_not_asked(place: WebsitePlace, host: str) -> None:
    """Whether it is named or given, and before anything is sent."""
    place.save(TEXTS)
    place.options |= {
        "allow_private": False,
        "url": f"{place.web.url}/sitemap.xml".replace("127.0.0.1", host),
    }
    with pytest.raises(SourceUnavailableError, match="allow_private"):
        place.look()
    assert place.web.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("ff02::1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert polite_http.is_public(address) is public


def open_strange(place: WebsitePlace, answer: Answer, seconds: float = 60) -> DocumentUnreadableError:
    """How a page is refused that is answered so."""
    place.save(TEXTS)
    reference = place.list()["one.md"]
    place.web.answers["/one.md"] = answer
    site = Site(
        place.web.url, Pace(place.environment.state_dir / "pace", 0), allow_private=True, page_seconds=seconds
    )
    connector = WebsiteConnector("docs", Options(url=place.web.url), site)
    with pytest.raises(DocumentUnreadableError) as caught:
        connector.open_document(reference)
    connector.close()
    return caught.value


def test_a_page_without_an_end_is_ended_by_its_size(place: WebsitePlace) -> None:
    assert "split it" in str(open_strange(place, Answer(endless=b"x" * 1_000_000)))


def test_a_page_that_comes_a_byte_at_a_time_is_ended_in_time(place: WebsitePlace) -> None:
    assert "longer than 1 seconds" in str(open_strange(place, Answer(endless=b"x", pause=0.02), seconds=1))


def test_headers_without_an_end_are_ended_in_time(place: WebsitePlace) -> None:
    """The server says nothing at all, until the time is up."""

    def stall() -> Answer:
        place.web.ended.wait(30)
        return Answer()

    place.save(TEXTS)
    reference = place.list()["one.md"]
    place.web.answers["/one.md"] = stall
    site = Site(
        place.web.url, Pace(place.environment.state_dir / "pace", 0), allow_private=True, page_seconds=1
    )
    with pytest.raises(DocumentUnreadableError, match="longer than 1 seconds"):
        WebsiteConnector("docs", Options(url=place.web.url), site).open_document(reference)


def test_a_page_that_unpacks_to_too_much_is_ended(place: WebsitePlace) -> None:
    bomb = gzip.compress(b"\0" * 200_000_000, compresslevel=1)
    assert "split it" in str(open_strange(place, Answer(bomb, headers={"Content-Encoding": "gzip"})))
    assert "not asked for" in str(open_strange(place, Answer(b"x", headers={"Content-Encoding": "br"})))
    assert "is not" in str(open_strange(place, Answer(b"no gzip", headers={"Content-Encoding": "gzip"})))
    half = gzip.compress(b"# One, and more")[:-12]
    assert "ends early" in str(open_strange(place, Answer(half, headers={"Content-Encoding": "gzip"})))


def test_a_zipped_page_is_unpacked(place: WebsitePlace) -> None:
    place.save(TEXTS)
    reference = place.list()["one.md"]
    place.web.answers["/one.md"] = Answer(gzip.compress(b"# Zipped"), headers={"Content-Encoding": "gzip"})
    assert place.open(reference) == b"# Zipped"


XXE = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<{0} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>http://x/&a;</loc></url></{0}>"""
LAUGHTER = "".join(f'<!ENTITY z{n} "{f"&z{n - 1};" * 10 if n else "ha"}">' for n in range(21))
LAUGHS = f"""<?xml version="1.0"?><!DOCTYPE x [{LAUGHTER}]><urlset><url><loc>&z20;</loc></url></urlset>"""


@pytest.mark.parametrize(
    ("sitemap", "said"),
    [
        (XXE.format("urlset").encode(), "entities"),
        (XXE.format("rss").encode(), "entities"),
        (LAUGHS.encode(), "entities"),
        (b"<urlset><url><loc>http://x/a</loc></url>", "no valid XML"),
        (b"<urlset>" + b"<a>" * 100_000, "too deep"),
        (b"\x1f\x8bnot gzip", "looks gzipped"),
        (gzip.compress(b"<urlset>" + b" " * 60_000_000), "when it is unpacked"),
    ],
    ids=["xxe", "xxe in a feed", "billion laughs", "broken", "deep", "no gzip", "gzip bomb"],
)
def test_a_sitemap_that_cannot_be_read_is_no_empty_one(
    place: WebsitePlace, sitemap: bytes, said: str
) -> None:
    place.web.put("/sitemap.xml", sitemap, "application/xml")
    with pytest.raises(SourceUnavailableError, match=said):
        place.look()


def test_a_page_that_fails_keeps_its_version_and_many_say_that_the_server_does(place: WebsitePlace) -> None:
    place.save({f"{number}.md": b"x" for number in range(6)})
    known = read_all(place)
    for path in ("0.md", "3.md"):
        place.web.answers[f"/{path}"] = Answer(status=500)
    place.web.answers["/4.md"] = Answer(status=403)
    found, problems = place.look(known)
    assert set(problems) == {"0.md", "3.md", "4.md"} and not any(one.fingerprint for one in problems.values())
    assert "answers 500" in problems["0.md"].message and "answers 403" in problems["4.md"].message
    for number in range(6):
        place.web.answers[f"/{number}.md"] = Answer(status=500)
    with pytest.raises(SourceUnavailableError, match="again and again"):
        place.look(known)
    assert set(found) == {"1.md", "2.md", "5.md"}


class Clock:
    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []  # type: tuple[float, list[float]]

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_requests_of_all_tasks_are_spread(tmp_path: Path) -> None:
    clock = Clock()
    paces = [Pace(tmp_path / "pace/host", 1.0, clock=clock, sleep=clock.sleep) for _ in range(3)]
    turns = []
    for pace in paces * 3:
        pace.wait()
        turns.append(clock.now)
    assert turns == [1000.0 + number for number in range(9)]
    # Two that ask at the same time get different turns, and after a restart nobody waits for a clock that is gone.
    assert [round(pace._reserve(), 6) for pace in paces] == [1.0, 2.0, 3.0]
    clock.now = 5.0
    paces[0].wait()
    assert clock.now == 5.0


def test_a_server_that_is_busy_is_left_alone_as_long_as_it_says(web: WebServer, tmp_path: Path) -> None:
    clock = Clock()
    answers = iter([Answer(status=429, headers={"Retry-After": "7"}), Answer(status=503), Answer(b"at last")])
    web.answers["/a"] = lambda: next(answers)
    web.put("/robots.txt", "User-agent: *\nCrawl-delay: 3\n")
    site = Site(web.url, Pace(tmp_path / "pace", 1.0, clock=clock, sleep=clock.sleep), allow_private=True)
    assert site.fetch(f"{web.url}/a").content == b"at last"
    assert 7.0 in clock.slept and 4.0 in clock.slept and clock.now >= 1000 + 7 + 4
    began = clock.now
    web.put("/b", "b")
    for _ in range(3):
        site.fetch(f"{web.url}/b")
    assert clock.now - began >= 3 * 3.0 - 3.0
    web.answers["/a"] = Answer(status=429, headers={"Retry-After": "100000"})
    with pytest.raises(SourceUnavailableError, match="lower the rate"):
        site.fetch(f"{web.url}/a")
    assert max(clock.slept) <= 60
    site.close()


def test_a_server_that_is_away_is_unavailable(place: WebsitePlace) -> None:
    place.options["url"] = "http://127.0.0.1:9/sitemap.xml"
    with pytest.raises(SourceUnavailableError, match="can't be reached"):
        place.look()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "docs.example.org"}, "write it like"), ({"url": "ftp://x/y"}, "write it like"),
        ({"url": "https://ada:pw@x.org/"}, "leave user and password out"),
        ({"url": "https://x.org/", "requests_per_second": 0}, "requests_per_second"),
        ({"url": "https://x.org/", "pages": 10**9}, "pages"),
    ],
)  # fmt: skip
def test_what_cannot_be_declared(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Options.model_validate(options)
