"""The chat of the running stack in a headless Chromium: sign in, write, sources, rating, audit."""

import os
import shutil
from collections.abc import Iterator

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.browser]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def page(stack) -> Iterator[object]:
    if not CHROMIUM:
        message = "no Chromium on PATH: install Debian's `chromium`, or set CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(stack.url("serving"))
        page.get_by_label("username").fill("admin")
        page.get_by_label("password").fill(stack.secret("admin_password"))
        page.get_by_role("button", name="Login").click()
        yield page
        browser.close()


def test_a_post_with_its_sources_and_audit(stack, page) -> None:
    from playwright.sync_api import expect

    page.locator("#gw-topic").get_by_role("textbox").fill("Hybrid search in Weaviate")
    page.locator("#gw-write").click()
    post_id = page.locator(".gw-post-id").inner_text()
    expect(page.locator("#gw-sources")).to_contain_text("knowledge://")
    expect(page.locator("#gw-line")).to_contain_text("champion")
    page.locator("#gw-up").click()
    expect(page.locator("#gw-thanks")).to_contain_text("recorded")
    assert stack.ghostwriter("audit", "post", post_id)["post_id"] == post_id


def test_the_lineage_page_draws_documents_to_posts(page) -> None:
    page.get_by_role("tab", name="Lineage").click()
    page.locator(".gw-graph canvas").first.wait_for(state="visible")
    names = set(
        page.evaluate("document.querySelector('.gw-graph').cy.nodes().map((node) => node.data('label'))")
    )
    assert {"/documents", "Chunk", "/training_set", "posts"} <= names
