"""The ward page answers why a gateway's model called a beat so, in a real Chromium."""

import json
import re
import time
from typing import Any

import numpy as np
import pytest
from page_rig import HOSTILE, SHOTS, Ward, alarm, board, hr, shoot
from playwright.sync_api import expect

from qepa_server.care.explained import Explained
from qepa_uplink.beat_reasons import PLAYERS
from qepa_uplink.bedside_models import NUMBERS
from qepa_uplink.messages import LEAD_LENGTH, LEAD_STEPS, ExplainedBeat

BOARD = "00000001"
SHARES = {"P": -26, "QRS": 1312, "T": 86, "baseline": 3, "RR before": 340, "RR after": 141, "rhythm": -42}  # made
NUMBERS_OF_BEAT = {
    **{"unlike_q": 450, "unlike_r": 720, "unlike_s": 610, "unlike_t": 410, "unlike_p": 90, "height": 400},
    **{"breadth": 333, "pre_to_usual": -1120, "post_to_usual": 1200},
}


def made_lead(*waves: tuple[float, float, float]) -> bytes:
    """At 125 Hz from 448 ms before the R peak: bumps of (ms, height, width in ms)."""
    times = 8 * np.arange(LEAD_LENGTH) - 448
    heights = sum(height * np.exp(-0.5 * ((times - at) / wide) ** 2) for at, height, wide in waves)
    return np.asarray(np.rint(LEAD_STEPS * np.asarray(heights)), np.int8).tobytes()


def told(number: int = 1, beat: str = "V", age_ms: int = 12_000) -> dict[str, Any]:
    return {"number": number, "beat": beat, "model": "ecg-beats", "version": 3, "source": "x", "age_ms": age_ms}


def whole(number: int = 1, answer: str = "V", age_ms: int = 12_000, **changes: Any) -> str:
    """As the server answers, of a made ventricular beat."""
    message = ExplainedBeat(
        board=1,
        consent_id=bytes(16),
        boots=1,
        t_ms=1,
        received_ms=0,
        model="ecg-beats",
        version=3,
        answer="V",
        probabilities=(55, 10, 930, 5),
        shares=tuple(SHARES[player] for player in PLAYERS),
        numbers=tuple(NUMBERS_OF_BEAT.get(name, 0) for name in NUMBERS),
        beat=made_lead((-150, 0.06, 25), (-10, 1.4, 32), (70, -0.55, 38), (250, -0.45, 60)),
        usual=made_lead((-150, 0.12, 25), (-24, -0.12, 8), (0, 1.0, 11), (26, -0.2, 9), (260, 0.28, 45)),
    )
    answered = Explained(number, message, 0).whole(age_ms)
    return json.dumps(answered | {"board": BOARD, "answer": answer} | changes)


def show(ward: Ward, explained: Any, **answers: Any) -> None:
    ward.beats = {BOARD: whole(**answers)} if answers or explained else {}
    ward.change(boards=[board(1, 72, explained=explained), board(2, 88)])


def part(page: Any, name: str) -> Any:
    return page.get_by_test_id(f"{name}-{BOARD}")


def opened(page: Any, ward: Ward) -> None:
    show(ward, told())
    part(page, "beat-show").click()
    expect(part(page, "beat-source")).to_contain_text("Not for diagnosis")


PAINTED = """canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.some(value => value > 0);
}"""


def test_it_is_asked_by_keyboard_and_answered_with_picture_reasons_and_limits(page: Any, ward: Ward) -> None:
    expect(hr(page, 1)).to_have_text("72")
    expect(part(page, "beat-show")).to_be_hidden()
    show(ward, told())
    expect(part(page, "beat-show")).to_have_text(re.compile(r"Why V\? 1\d s ago"))
    expect(part(page, "beat-box")).to_be_hidden()
    assert not ward.beats_asked
    part(page, "beat-show").focus()
    page.keyboard.press("Enter")
    expect(part(page, "beat-show")).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("button", name="Why V?")).to_be_focused()
    rows = part(page, "beat-reasons").locator("li")
    expect(rows).to_have_count(len(PLAYERS))
    expect(part(page, "reason-QRS")).to_contain_text("40 % taller")
    expect(part(page, "reason-QRS")).to_contain_text("+131 points")
    expect(part(page, "reason-T")).to_contain_text("ST-T")
    expect(part(page, "reason-rhythm")).to_contain_text("\N{MINUS SIGN}4 points")
    expect(part(page, "reason-baseline")).to_contain_text("0 points")
    expect(part(page, "beat-source")).to_have_text(
        "Second opinion of the gateway's model ecg-beats v3, against this patient's own usual beat. Its probabilities: "
        "N 6 %, S 1 %, V 93 %, F 1 %. V ahead of N: usual beat \N{MINUS SIGN}94 points, this beat +88; reasons "
        "make up the difference. Not for diagnosis."
    )
    assert part(page, "beat-picture").evaluate(PAINTED)
    assert ward.beats_asked == [BOARD]
    page.keyboard.press("Enter")
    expect(part(page, "beat-box")).to_be_hidden()
    expect(rows).to_have_count(0)


def test_a_usual_beat_that_the_model_takes_for_the_answer_is_said(page: Any, ward: Ward) -> None:
    show(ward, told(), start_points=12.0)
    part(page, "beat-show").click()
    expect(part(page, "beat-source")).to_contain_text("The model calls the usual beat V, too")


def test_a_newer_beat_takes_its_place_once_it_could_be_read(page: Any, ward: Ward) -> None:
    asked = time.monotonic()
    opened(page, ward)
    part(page, "beat-show").focus()
    reasons = [{"name": "RR before", "words": "came 31 % early by the usual interval", "points": 90, "edges_ms": None}]
    show(ward, told(2, "S", 500), number=2, answer="S", age_ms=500, reasons=reasons)
    expect(part(page, "reason-RR before")).to_contain_text("came 31 %")
    assert time.monotonic() - asked >= 10
    expect(part(page, "beat-show")).to_have_text(re.compile(r"Why S\? \d+ s ago"))
    expect(part(page, "reason-QRS")).to_have_count(0)
    expect(part(page, "beat-box")).to_be_visible()
    expect(part(page, "beat-show")).to_be_focused()


def test_its_age_counts_up_and_it_goes_when_it_is_stale(page: Any, ward: Ward) -> None:
    opened(page, ward)
    show(ward, told(age_ms=299_000))
    expect(part(page, "beat-show")).to_have_text("Why V? 4 min ago")
    ward.silent = True  # the page's own clock has to notice
    expect(part(page, "beat-show")).to_be_hidden()
    expect(part(page, "beat-box")).to_be_hidden()
    expect(part(page, "beat-reasons").locator("li")).to_have_count(0)


@pytest.mark.parametrize("changes", [{"explained": None}, {"consent": False}])
def test_it_goes_with_the_consent_and_nothing_of_it_stays(page: Any, ward: Ward, changes: dict[str, Any]) -> None:
    opened(page, ward)
    ward.change(boards=[board(1, 72, **{"explained": told()} | changes)])
    expect(part(page, "beat-box")).to_be_hidden()
    expect(part(page, "beat-show")).to_be_hidden()
    expect(part(page, "reason-QRS")).to_have_count(0)
    expect(part(page, "beat-source")).to_have_text("")


def test_a_lost_connection_shows_dashes_and_comes_back(page: Any, ward: Ward) -> None:
    opened(page, ward)
    ward.refusing = True
    expect(part(page, "beat-show")).to_have_text("Why V? --")
    expect(part(page, "beat-note")).to_have_text("-- connection lost")
    expect(part(page, "beat-picture")).to_be_hidden()
    expect(part(page, "reason-QRS")).to_have_count(0)
    ward.refusing = False
    expect(part(page, "reason-QRS")).to_be_visible()


def test_what_the_server_says_wrong_is_not_shown(page: Any, ward: Ward) -> None:
    """In the state it is no beat; as an answer it is said to be unreadable."""
    expect(hr(page, 1)).to_have_text("72")
    for odd in (told(beat="N"), told(beat=HOSTILE), told(age_ms=-1), {"number": None}, "V", [told()]):
        show(ward, odd)
        ward.change(boards=[board(1, 72, explained=odd), board(2, 60 + len(str(odd)) % 30)])
        expect(hr(page, 2)).to_have_text(str(60 + len(str(odd)) % 30))
        expect(part(page, "beat-show")).to_be_hidden()
    show(ward, told(), reasons=[{"name": "QRS", "words": 7, "points": 3, "edges_ms": None}])
    part(page, "beat-show").click()
    expect(part(page, "beat-note")).to_have_text("the server's answer cannot be read")
    ward.beats = {}
    expect(part(page, "beat-note")).to_have_text("the server has no reasons for it")
    ward.beats = {BOARD: whole(reasons=[{"name": HOSTILE[:40], "words": HOSTILE, "points": 3, "edges_ms": [-80, 120]}])}
    expect(part(page, "beat-reasons")).to_contain_text(HOSTILE)
    assert page.evaluate("document.querySelectorAll('img, body script').length") == 0


def test_answers_that_are_no_beat_are_refused(page: Any) -> None:
    good = json.loads(whole())
    odd = [
        {"answer": "N"},
        {"probabilities": {"N": 1}},
        {"probabilities": None},
        {"lead_points": "88"},
        {"beat": good["beat"][1:]},
        {"usual": [None] * 128},
        {"fs_hz": 0},
        {"first_ms": None},
        {"reasons": []},
        {"reasons": good["reasons"] * 2},
        {"reasons": [good["reasons"][0] | {"points": 1e9}]},
        {"reasons": [good["reasons"][0] | {"edges_ms": [120, -80]}]},
        {"number": 1.5},
        {"age_ms": -1},
    ]
    bodies = ["", "[]", "null", "3", *(json.dumps(good | each) for each in odd), json.dumps(good)]
    taken = page.evaluate(
        """async bodies => {
            const { parseBeat } = await import("/js/beat.js");
            return bodies.map(body => parseBeat(body) !== null);
        }""",
        bodies,
    )
    assert taken == [False] * (len(bodies) - 1) + [True]


def test_alarms_stay_where_they_are_and_keep_the_focus(page: Any, ward: Ward) -> None:
    place = "node => { const box = node.getBoundingClientRect(); return [box.x + scrollX, box.y + scrollY]; }"
    ward.change(alarms=[alarm("a1", "high")])
    show(ward, told())
    expect(part(page, "beat-show")).to_be_visible()
    button = page.get_by_test_id("acknowledge-a1")
    before = button.evaluate(place)
    part(page, "beat-show").click()
    expect(part(page, "reason-QRS")).to_be_visible()
    button.focus()
    assert button.evaluate(place) == before
    show(ward, None)
    expect(part(page, "beat-show")).to_be_hidden()
    expect(button).to_be_focused()
    assert button.evaluate(place) == before


def test_whether_boards_and_gateways_models_agree_is_said_and_what_is_odd_is_unknown(page: Any, ward: Ward) -> None:
    line = page.get_by_test_id("disagreement")
    first = ward.state["disagreement"]
    expect(line).to_have_text(
        "unknown (2 boards compared): it takes 8 boards under consent and an hour of the version before"
    )
    ward.change(disagreement=first | {"standing": "usual", "boards": 11})
    expect(line).to_have_text("as usual (11 boards compared)")
    ward.change(disagreement=first | {"standing": "watched", "boards": 11, "version": 8, "score": 2.5})
    expect(line).to_have_text(
        "v8 is new: nothing unusual so far in its first hour, score 2.5 of 100,000 (11 boards compared)"
    )
    ward.change(disagreement=first | {"standing": "raised", "version": 8, "score": 2e5, "since_ms": 0})
    expect(line).to_contain_text("unusual: v8 answers otherwise than the gateways' model since")
    expect(line).to_have_attribute("data-warn", "")
    ward.change(disagreement=HOSTILE)
    expect(line).to_contain_text("unknown")
    expect(line).not_to_have_attribute("data-warn", "")


@pytest.mark.parametrize(("scheme", "size"), [("dark", (1280, 900)), ("light", (400, 844))], ids=["desktop", "phone"])
def test_an_open_answer_fits_the_screen(browser: Any, ward: Any, scheme: str, size: tuple[int, int]) -> None:
    width, height = size
    show(ward, told())
    ward.change(boards=[*ward.state["boards"], *(board(number, 60 + number) for number in range(3, 9))])
    with browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(ward.url)
        part(page, "beat-show").click()
        expect(part(page, "reason-QRS")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if SHOTS:
            page.wait_for_timeout(1200)
        shoot(page, f"beat-{'desktop' if width > 600 else 'phone'}-{scheme}")
