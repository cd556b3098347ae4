"""The system's Chromium, driven by Playwright, and the ward page that it opens; makes the rig importable."""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from page_rig import Handler, Ward

expect.set_options(timeout=60_000)  # the machine may be ten times slower than usual

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        missing = "NO CHROMIUM on this machine: the ward page was not tested"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def ward() -> Iterator[Ward]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.ward = Ward()  # type: ignore[attr-defined]
    server.ward.url = f"http://127.0.0.1:{server.server_address[1]}/"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.ward  # type: ignore[attr-defined]
    server.ward.silent, server.ward.refusing = False, True  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Any, ward: Any) -> Iterator[Any]:
    """An open ward page. At the end of a test nothing may have gone wrong in it, the policy's refusals included."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    opened.goto(ward.url)
    yield opened
    context.close()
    assert faults == []
