"""The gallery with the demo's rows in a real browser, by Playwright and Chromium.

Playwright is 165 MB large and no dependency: `pip install playwright`, and Chromium from the system or by
`playwright install chromium`. With GALLERY_SCREENSHOTS=FOLDER the test leaves a picture of each page there.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from matching_pipeline.cli.dev import free_port
from matching_pipeline.db.connections import Connection
from matching_pipeline.gallery.serving import serving
from matching_pipeline.handlers import registry
from matching_pipeline.sample_data.insert import insert_sample_data
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES

playwright: Any = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 860}


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        chromium = shutil.which("chromium") or shutil.which("google-chrome") or running.chromium.executable_path
        if not Path(chromium).exists():
            pytest.skip("there is no Chromium on this machine")
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def demo(connection: Connection, database_url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a gallery of the demo's rows, all embedded and matched."""
    settings = Settings(database_url=database_url, data_dir=tmp_path)
    insert_sample_data(connection)
    for queue in registry.queues(EXAMPLES):
        if not registry.is_shadow(queue):
            registry.process_due(settings, database_url, EXAMPLES, queue)
    with serving(settings, database_url, free_port(0)) as address:
        yield address


def test_every_page_fits_a_phone_and_shows_its_pictures(browser: Any, demo: str) -> None:
    faults: list[str] = []
    for scheme, viewport in (("light", DESK), ("dark", PHONE)):
        page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        for name, path in _paths(page, demo).items():
            answer = page.goto(demo + path, wait_until="load")
            assert answer.status == 200, path
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
            assert page.evaluate("document.querySelectorAll('main h1').length") == 1, path
            _load_pictures(page)
            broken = "[...document.images].filter(each => !each.naturalWidth).map(each => each.src)"
            assert page.evaluate(broken) == [], path
            if folder := os.environ.get("GALLERY_SCREENSHOTS"):
                page.screenshot(path=Path(folder) / f"gallery-{name}-{scheme}.png", full_page=name != "entity")
    assert faults == []


def test_a_person_judges_by_keyboard_only(browser: Any, demo: str, connection: Connection) -> None:
    page = browser.new_context(viewport=DESK).new_page()
    page.goto(demo)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    _tab_to(page, "project")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sources/project")
    page.keyboard.press("/")
    page.keyboard.type("reading corner")
    page.keyboard.press("Enter")
    page.wait_for_url("**words=reading+corner")
    _tab_to(page, "Project reading corner with a warm lamp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/entities/project/**")
    _tab_to(page, "Why")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pairs/project/**")
    for key, verdicts in (("g", [3]), ("b", [0]), ("u", [])):
        with page.expect_navigation():
            page.keyboard.press(key)
        found = connection.execute("select verdict from matching_pipeline.match_labels").fetchall()
        assert [verdict for (verdict,) in found] == verdicts


def _paths(page: Any, demo: str) -> dict[str, str]:
    page.goto(f"{demo}/sources/project?words=urban")
    entity = page.get_attribute(".grid a", "href")
    page.goto(demo + entity)
    pair = page.get_attribute(".matches .score a", "href")
    fixed = {"sources": "/", "browse": "/sources/product?order=most", "texts": "/sources/posting"}
    fixed |= {"faces": "/sources/face", "freshness": "/freshness", "packs": "/packs"}
    return {**fixed, "dead-letters": "/dead-letters", "judge": "/judge/project", "entity": entity, "pair": pair}


def _load_pictures(page: Any) -> None:
    """Also those that are loaded only when they come into sight."""
    page.evaluate(
        """async () => {
            for (const each of document.images) each.loading = "eager";
            await Promise.all([...document.images].map(each => each.decode().catch(() => null)));
        }"""
    )


def _tab_to(page: Any, words: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if str(page.evaluate("document.activeElement.textContent")).strip().startswith(words):
            return
    raise AssertionError(f"the keyboard does not come to {words}")
