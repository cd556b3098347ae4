"""The gateway's own page in a real Chromium: it asks for its token, and fits a telephone."""

import asyncio
import queue
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_rig import SHOTS
from playwright.sync_api import Browser, Page, expect

from qepa_gateway.bedside.app import make_app
from qepa_gateway.bedside.server import listen, serve

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))
from bedside_rig import Rig

TOKEN = secrets.token_urlsafe(16)


async def serve_a_ward(folder: Path, host: str, door: socket.socket, ready: "queue.Queue[Any]") -> None:
    """Three patients, one of whom has a consent and a pulse of 77; until the task in ``ready`` is cancelled."""
    rig = Rig(folder, patients=3).begin()
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[1]))
    rig.settle(4)
    rig.up(rig.boards[1], rig.boards[1].care(77))
    rig.pump()
    rig.pump()
    app = make_app(rig.site.gateway, TOKEN, lambda: rig.now_ms, host=host, wake=lambda: None)
    serving = asyncio.ensure_future(serve(app, door))
    ready.put(serving)
    await asyncio.wait({serving})


@pytest.fixture(scope="module", params=["127.0.0.1", "elsewhere"])
def bedside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bool, str]]:
    """Whether the page is the machine's own, and where it is."""
    door, ready = listen("127.0.0.1", 0), queue.Queue[Any]()
    work = serve_a_ward(tmp_path_factory.mktemp("ward"), request.param, door, ready)
    thread = threading.Thread(target=asyncio.run, args=(work,), daemon=True)  # a spool is its own thread's
    thread.start()
    serving = ready.get(timeout=60)
    yield request.param == "127.0.0.1", f"http://127.0.0.1:{door.getsockname()[1]}/"
    serving.get_loop().call_soon_threadsafe(serving.cancel)
    thread.join(60)


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    yield page
    page.close()


def test_it_shows_the_ward_on_a_telephone_and_asks_for_its_token_elsewhere(
    bedside: tuple[bool, str], phone: Page
) -> None:
    own, url = bedside
    faults: list[str] = []
    phone.on("pageerror", lambda error: faults.append(str(error)))
    phone.goto(url)
    door = phone.get_by_label("Token of this bedside")
    if own:
        expect(door).to_be_hidden()
    else:
        expect(phone.get_by_role("status")).to_contain_text("it asks for its token")
        door.fill("guessed")
        phone.get_by_role("button", name="Open").click()
        expect(phone.get_by_role("status")).to_contain_text("that is not its token")
        expect(phone.get_by_text("77 /min")).to_have_count(0)
        door.fill(TOKEN)
        phone.get_by_role("button", name="Open").click()
    expect(phone.get_by_text("77 /min")).to_be_visible()
    expect(door).to_be_hidden()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert TOKEN not in phone.url
    assert faults == []
    if SHOTS and own:
        phone.screenshot(path=Path(SHOTS) / "bedside-phone.png", full_page=True)


def test_a_gateway_that_hangs_leaves_no_heart_rate_on_the_screen(bedside: tuple[bool, str], phone: Page) -> None:
    own, url = bedside
    phone.goto(url)
    if not own:
        phone.get_by_label("Token of this bedside").fill(TOKEN)
        phone.get_by_role("button", name="Open").click()
    expect(phone.get_by_text("77 /min")).to_be_visible()
    phone.route("**/api/state", lambda _route: None)  # the connection stands, and nobody answers
    expect(phone.get_by_text("77 /min")).to_have_count(0, timeout=30_000)
    expect(phone.get_by_role("status")).to_contain_text("no data from the gateway")
    phone.unroute("**/api/state")
    expect(phone.get_by_text("77 /min")).to_be_visible(timeout=30_000)
