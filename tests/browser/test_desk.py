"""The desk in a real browser, on fakes: sign in, write, rate, draw, audit, lineage, knowledge."""

import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import select

from shared import contracts
from shared.ledger.models import Feedback, Post
from shared.llm.port import LlmError
from tests.fake_desk import (
    PASSWORD,
    TUNED_ANSWER,
    FakeWorld,
    add_lineage,
    add_model,
    add_problem,
    make_world,
    mend_problems,
)

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        message = "no Chromium on PATH: install Debian's `chromium`, or set CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> FakeWorld:
    world = make_world(tmp_path_factory.mktemp("desk"))
    add_model(world, 1, "champion")
    add_lineage(world)
    return world


@pytest.fixture(scope="module")
def url(world: FakeWorld, browser: Browser) -> Iterator[str]:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from deployments.serving.app import create_app

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(world.desk), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the desk did not start"
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(20_000)
    requested: list[str] = []
    errors: list[str] = []
    missing: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("response", lambda answer: missing.append(answer.url) if answer.status == 404 else None)
    page.goto(url)
    yield page
    page.close()
    own = (url, "data:", "blob:")
    assert [item for item in requested if not item.startswith(own)] == [], "the pages must need no internet"
    assert errors == []
    assert missing == [], "the gate refuses what the pages need"


def sign_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_label("username").fill("admin")
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()


def write(page: Page, topic: str) -> str:
    page.locator("#gw-topic").get_by_role("textbox").fill(topic)
    page.locator("#gw-write").click()
    expect(page.locator("#gw-chat")).to_contain_text(topic, timeout=30_000)
    return page.locator(".gw-post-id").inner_text()


def test_wrong_password_is_refused(page: Page) -> None:
    sign_in(page, "wrong")
    expect(page.get_by_text("Incorrect Credentials")).to_be_visible()
    expect(page.locator("#gw-topic")).to_have_count(0)


def test_post_with_sources_rating_picture_and_audit(page: Page, world: FakeWorld) -> None:
    sign_in(page)
    post_id = write(page, "asset event")
    expect(page.locator("#gw-chat")).to_contain_text(TUNED_ANSWER[:60])
    expect(page.locator("#gw-sources")).to_contain_text("knowledge://guides/assets.md")
    expect(page.locator("#gw-line")).to_contain_text("champion · version 1")

    page.locator("#gw-up").click()
    expect(page.locator("#gw-thanks")).to_contain_text("recorded")
    page.locator("#gw-draw").click()
    expect(page.locator("#gw-picture img")).to_be_visible()
    page.get_by_text("Where this post comes from").click()
    expect(page.locator("#gw-audit")).to_contain_text("ftjob-1")
    expect(page.locator("#gw-audit")).to_contain_text("scheduled__1")

    with world.sessions() as session:
        assert session.get(Post, post_id) is not None
        assert session.scalars(select(Feedback.rating).where(Feedback.post_id == post_id)).all() == [1]

    page.get_by_role("tab", name="Posts").click()
    page.locator("#gw-posts").get_by_text("asset event").locator("visible=true").first.click()
    expect(page.locator("#gw-post")).to_contain_text(post_id)
    expect(page.locator("#gw-posts")).to_contain_text(re.compile(r"\d{4}, \d\d:\d\d UTC"))


TRICKY = (
    "A **bold** claim <b>x</b> &amp; ![p](http://192.0.2.1/p.png) <img src=http://192.0.2.2/t.png onerror=alert(1)>\n\n"
    "    indented [link](javascript:alert(1)) $$x$$ `code` ${1+1} {{value}}\n<think>kept</think> ```\n<"
)


def test_a_post_is_shown_and_copied_as_the_text_it_is(
    page: Page, url: str, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        world.llm, "stream_chat", lambda *_, **__: (part for part in (TRICKY[:60], TRICKY[60:]))
    )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
    sign_in(page)
    topic = "asset ![t](http://192.0.2.3/t.png) <img src=http://192.0.2.4/t.png>"
    post_id = write(page, topic)
    said = page.locator("#gw-chat .gw-said")
    assert said.all_text_contents() == [topic, TRICKY]
    page.locator("#gw-chat .gw-assistant .gw-copy").click()
    expect(page.locator("#gw-chat .gw-assistant .gw-copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == TRICKY
    page.get_by_role("tab", name="Posts").click()
    page.locator("#gw-posts").get_by_text("![t]").locator("visible=true").first.click()
    expect(page.locator("#gw-post")).to_contain_text(post_id)
    assert page.locator("#gw-post .gw-text").text_content() == TRICKY
    expect(page.locator("#gw-post")).to_contain_text(topic)
    assert page.locator("#gw-chat img, #gw-post img, #gw-posts img, #gw-sources img").count() == 0


def test_an_error_quotes_what_was_typed_as_text(page: Page) -> None:
    sign_in(page)
    page.locator("#gw-model input").fill("<img src=http://192.0.2.5/m.png>")
    page.locator("#gw-model input").press("Enter")
    page.locator("#gw-topic").get_by_role("textbox").fill("asset event")
    page.locator("#gw-write").click()
    expect(page.locator("#gw-chat")).to_contain_text("There is no model '<img src=http://192.0.2.5/m.png>'")


def test_a_message_beside_the_page_is_text_too(
    page: Page, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LlmError("refused: <img src=http://192.0.2.6/e.png> & <b>more</b>")

    sign_in(page)
    write(page, "asset event")
    monkeypatch.setattr(world.llm, "draw", fail)
    page.locator("#gw-draw").click()
    expect(page.get_by_text("refused: <img src=http://192.0.2.6/e.png> & <b>more</b>")).to_be_visible()


def test_a_changed_password_ends_what_is_open(
    page: Page, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(page)
    write(page, "asset event")
    page.locator("#gw-topic").get_by_role("textbox").fill("asset event")
    monkeypatch.setattr(world, "password", "ä new one")
    page.locator("#gw-write").click()
    expect(page.get_by_text("You are not signed in, or no longer")).to_be_visible()
    page.reload()
    sign_in(page, "ä new one")
    expect(page.locator("#gw-topic")).to_be_visible()


def test_bad_topic_and_unknown_model_are_explained(page: Page) -> None:
    sign_in(page)
    page.locator("#gw-write").click()
    expect(page.locator("#gw-chat")).to_contain_text("The topic is empty")
    page.locator("#gw-model input").fill("99")
    page.locator("#gw-model input").press("Enter")
    page.locator("#gw-topic").get_by_role("textbox").fill("asset event")
    page.locator("#gw-write").click()
    expect(page.locator("#gw-chat")).to_contain_text("There is no version 99")


def test_a_topic_that_nothing_answers_can_be_written_anyway(page: Page, world: FakeWorld) -> None:
    settings = world.voice_file.with_name("retrieval.toml")
    settings.write_text("[rerank]\nleast_relevance = 0.5\n")
    try:
        sign_in(page)
        expect(page.locator("#gw-anyway")).not_to_be_visible()
        page.locator("#gw-topic").get_by_role("textbox").fill("chocolate cake")
        page.locator("#gw-write").click()
        expect(page.locator("#gw-chat")).to_contain_text("Nothing in the knowledge answers this topic")
        page.locator("#gw-anyway").click()
        expect(page.locator("#gw-line")).to_contain_text("check it")
        expect(page.locator(".gw-post-id")).to_be_visible()
        expect(page.locator("#gw-anyway")).not_to_be_visible()
        expect(page.locator("#gw-chat")).to_contain_text(TUNED_ANSWER[:60])
    finally:
        settings.unlink()


def test_stop_records_nothing(page: Page, world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def endless(*_: object, **__: object) -> Iterator[str]:
        try:
            while True:
                time.sleep(0.05)
                yield "word "
        finally:
            stopped.set()

    monkeypatch.setattr(world.llm, "stream_chat", endless)
    with world.sessions() as session:
        before = len(session.scalars(select(Post.id)).all())
    sign_in(page)
    page.locator("#gw-topic").get_by_role("textbox").fill("endless")
    page.locator("#gw-write").click()
    expect(page.locator("#gw-chat")).to_contain_text("word word")
    page.locator("#gw-stop").click()
    expect(page.locator("#gw-chat")).to_contain_text("Stopped")
    expect(page.locator("#gw-write")).to_be_visible()
    assert stopped.wait(10), "the model goes on although the reader stopped it"
    with world.sessions() as session:
        assert len(session.scalars(select(Post.id)).all()) == before


def test_lineage_is_drawn_and_a_click_tells_more(page: Page) -> None:
    sign_in(page)
    page.get_by_role("tab", name="Lineage").click()
    expect(page.locator(".gw-graph canvas").first).to_be_visible()
    graph = "document.querySelector('.gw-graph').cy"
    names = page.evaluate(f"{graph}.nodes().map((node) => node.data('label'))")
    assert {"/documents", "write_post", "posts"} <= set(names)
    place = page.evaluate(
        f"{graph}.nodes().filter((n) => n.data('label') === 'write_post')[0].renderedPosition()"
    )
    page.locator(".gw-graph").click(position=place)
    expect(page.locator(".gw-detail")).to_contain_text("write_post")
    expect(page.locator(".gw-detail")).to_contain_text("COMPLETE")


def test_knowledge_is_shown_and_synced(page: Page, world: FakeWorld) -> None:
    sign_in(page)
    page.get_by_role("tab", name="Knowledge").click()
    expect(page.locator("#gw-knowledge")).to_contain_text("guides")
    expect(page.locator(".gw-problems")).to_have_count(0)
    page.locator("#gw-sync").click()
    expect(page.get_by_text("Ingest looks at its sources")).to_be_visible()
    assert world.airflow.events[-1][0] == contracts.INGEST_DAG


def test_files_that_cannot_be_used_are_shown_until_they_are_mended(page: Page, world: FakeWorld) -> None:
    add_problem(world, "knowledge://notes/<b>.txt", "it is not UTF-8 (byte 0): save it as UTF-8")
    sign_in(page)
    page.get_by_role("tab", name="Knowledge").click()
    box = page.locator(".gw-problems")
    expect(box).to_contain_text("1 file can't be used")
    expect(box.locator("li")).to_contain_text("knowledge://notes/<b>.txt")
    expect(box.locator("li")).to_contain_text("save it as UTF-8")
    mend_problems(world)
    page.locator("#gw-sync").click()  # from here on the page follows by itself
    expect(box).to_have_count(0, timeout=30_000)
    expect(page.locator("#gw-knowledge")).to_contain_text("guides")
