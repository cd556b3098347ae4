"""The ward page in a real Chromium, against a small server that says what each test needs said."""

import json
import re
import time
from typing import Any

import pytest
from page_rig import HOSTILE, LINK, MODEL, SHOTS, Ward, alarm, board, hr, privacy, quarantine, shoot, void_round
from playwright.sync_api import expect


def test_heart_rates_change(page: Any, ward: Ward) -> None:
    expect(hr(page, 1)).to_have_text("72")
    expect(hr(page, 2)).to_have_text("88")
    ward.change(boards=[board(1, 75), board(2, 61)])
    expect(hr(page, 1)).to_have_text("75")
    expect(hr(page, 2)).to_have_text("61")
    expect(page.get_by_test_id("connection")).to_have_text("live")
    expect(page.get_by_test_id("connection-banner")).to_be_hidden()
    expect(page.get_by_test_id("board-count")).to_have_text("2 of 2 live")


def test_the_model_says_how_far_it_is_and_why_it_went_back(page: Any, ward: Ward) -> None:
    expect(page.get_by_test_id("model")).to_have_text("v7, trained on 7 rounds, with all boards")
    back = {"version": 9, "rounds_trained": 6, "state": "canary", "origin": "rollback"}
    ward.change(model=back | {"reason": "version 8: 3 boards at gw-1 do not bear it"})
    expect(page.get_by_test_id("model")).to_have_text(
        "v9, rolled back, trained on 6 rounds, with one board first. version 8: 3 boards at gw-1 do not bear it"
    )


def test_tile_says_what_the_number_rests_on(page: Any, ward: Ward) -> None:
    ward.change(
        boards=[board(1, 72, key_source="ratchet", pads=1204, vitals={"quality_percent": 45, "beat_class": "V"})]
    )
    for name, shown in {
        "quality": "45 %",
        "beat": "V ventricular",
        "key": "ratchet",
        "pads": "1,204",
        "model": "v7",
        "gateway": "gw-1",
        "lead": "on",
    }.items():
        expect(page.get_by_test_id(f"{name}-00000001")).to_have_text(shown)


@pytest.mark.parametrize(
    ("vitals", "why", "age"),
    [
        # a server that forgets the rule of five seconds
        ({"hr_bpm": 72, "age_ms": 7300}, "no current value", re.compile(r"[789] s ago")),
        ({"hr_bpm": None, "age_ms": 300}, "no heart rate", "0 s ago"),
        ({"hr_bpm": 72, "lead_off": True}, "electrode off", "0 s ago"),
        ({"hr_bpm": "72"}, "no heart rate", "0 s ago"),
        ({"hr_bpm": 72, "age_ms": None}, "no current value", ""),
    ],
)
def test_no_number_without_a_current_one(page: Any, ward: Ward, vitals: dict[str, Any], why: str, age: Any) -> None:
    expect(hr(page, 1)).to_have_text("72")
    ward.change(boards=[board(1, 72, vitals=vitals)])
    expect(hr(page, 1)).to_have_text("--")
    expect(page.get_by_test_id("why-00000001")).to_have_text(why)
    expect(page.get_by_test_id("age-00000001")).to_have_text(age)


def test_value_grows_stale_between_states(page: Any, ward: Ward) -> None:
    """The server says 4 s each time it speaks, and then is slow: the page's own clock has to notice."""
    ward.change(boards=[board(1, 72, vitals={"age_ms": 4000})])
    expect(page.get_by_test_id("age-00000001")).to_have_text("4 s ago")
    ward.silent = True
    expect(page.get_by_test_id("why-00000001")).to_have_text("no current value")
    expect(hr(page, 1)).to_have_text("--")


def test_states_that_waited_in_a_queue_are_old(page: Any, ward: Ward) -> None:
    expect(hr(page, 1)).to_have_text("72")
    age = page.get_by_test_id("age-00000001")
    ward.stuck_ms = int(time.time() * 1000) - 20_000
    expect(age).to_have_text(re.compile(r"2\d s ago"))
    expect(hr(page, 1)).to_have_text("--")


def test_without_consent_nothing_is_shown(page: Any, ward: Ward) -> None:
    """Even where a faulty server sends the value."""
    ward.change(boards=[board(1, 72, consent=False)])
    expect(page.get_by_test_id("why-00000001")).to_have_text("no consent: not monitored here")
    expect(hr(page, 1)).to_have_text("--")
    expect(page.get_by_test_id("beat-00000001")).to_have_text("--")
    expect(page.get_by_test_id("knows")).to_contain_text("consent is valid")


def measure(code: int, name: str, unit: str, value: Any, **changes: Any) -> dict[str, Any]:
    known = {"quality_percent": 90, "reason": None} if value is not None else {"quality_percent": None}
    return {"code": code, "name": name, "unit": unit, "value": value, "note": ""} | known | changes


MEASURES = [
    measure(1, "heart_rate", "/min", 72),
    measure(4, "spo2", "%", 97.5, note="uncalibrated"),
    measure(6, "temperature", "Cel", None, reason="sensor_fault"),
    measure(8, "posture", "", "supine"),
    measure(200, "measure_200", "", 7),
]


def test_every_measure_is_shown_with_unit_and_quality_or_with_the_reason_why_not(page: Any, ward: Ward) -> None:
    ward.change(boards=[board(1, 72, vitals={"measures": MEASURES})])
    for code, value, basis in [
        (4, "97.5 %", "signal 90 %, uncalibrated"),
        (6, "--", "sensor fault"),
        (8, "supine", "signal 90 %"),
        (200, "7", "signal 90 %"),
    ]:
        expect(page.get_by_test_id(f"measure-{code}-00000001")).to_have_text(value)
        expect(page.get_by_test_id(f"basis-{code}-00000001")).to_have_text(basis)
    expect(page.get_by_test_id("measures-00000001")).to_contain_text("Skin temperature")
    expect(page.get_by_test_id("measures-00000001")).not_to_contain_text("Heart rate")
    shoot(page, "measures")


def test_measures_grow_stale_with_their_record_and_go_with_the_consent(page: Any, ward: Ward) -> None:
    ward.change(boards=[board(1, 72, vitals={"measures": MEASURES, "age_ms": 4000})])
    expect(page.get_by_test_id("measure-4-00000001")).to_have_text("97.5 %")
    ward.change(boards=[board(1, 72, vitals={"measures": MEASURES, "age_ms": 5100})])
    expect(page.get_by_test_id("measure-4-00000001")).to_have_text("--")
    expect(page.get_by_test_id("basis-4-00000001")).to_have_text("no current value")
    ward.change(boards=[board(1, 72, consent=False, vitals={"measures": MEASURES})])
    expect(page.get_by_test_id("measures-00000001")).to_be_hidden()
    expect(page.get_by_test_id("measure-4-00000001")).to_have_count(0)


MODEL_NAME = "gateway model ecg-beats v1"


def finding(age_ms: int = 0, *readings: Any) -> dict[str, Any]:
    return {"model": "ecg-beats", "version": 1, "source": MODEL_NAME, "readings": list(readings), "age_ms": age_ms}


def test_what_a_model_found_stands_under_its_name_and_grows_stale(page: Any, ward: Ward) -> None:
    beats = measure(194, "ventricular_beats", "/min", 3), measure(196, "ecg_quality", "%", None, reason="poor_signal")
    glucose = finding(2000, measure(198, "glucose_in_30_min", "mg/dL", 84)) | {"source": "gateway model glucose v2"}
    ward.change(boards=[board(1, 72, findings=[finding(9000, *beats), glucose])])
    groups = page.get_by_test_id("findings-00000001").locator("section")
    expect(groups).to_have_count(2)
    expect(groups.locator("h4")).to_have_text([MODEL_NAME, "gateway model glucose v2"])
    expect(groups.nth(0)).to_contain_text("Ventricular beats")
    expect(groups.nth(1)).to_contain_text("84 mg/dL")
    expect(page.get_by_test_id("measure-194-00000001")).to_have_text("3 /min")
    expect(page.get_by_test_id("basis-194-00000001")).to_have_text("signal 90 %")
    shoot(page, "findings")
    expect(page.get_by_test_id("basis-196-00000001")).to_have_text("poor signal")
    ward.change(boards=[board(1, 72, findings=[finding(15_100, *beats)])])
    expect(page.get_by_test_id("measure-194-00000001")).to_have_text("--")
    expect(page.get_by_test_id("basis-194-00000001")).to_have_text("no current value")
    ward.change(boards=[board(1, 72, consent=False, findings=[finding(0, *beats)])])
    expect(page.get_by_test_id("findings-00000001")).to_be_hidden()
    expect(page.get_by_test_id("measure-194-00000001")).to_have_count(0)


def ecg_second(number: int, fs_hz: int = 100, boots: int = 1) -> str:
    """A second with one R peak of a millivolt."""
    samples = [0] * fs_hz
    samples[40:43] = [400, 800, 400]
    first = number * fs_hz
    record = {"number": number, "boots": boots, "first": first, "fs_hz": fs_hz, "units_per_mv": 800}
    return json.dumps(record | {"peaks": [first + 41], "samples": samples})


PICTURE = """canvas => {
    const { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    const [r, g, b] = getComputedStyle(canvas).color.match(/\\d+/g).map(Number);
    const near = (at) =>
        pixels[at + 3] > 120 && [r, g, b].every((value, k) => Math.abs(pixels[at + k] - value) < 30);
    const columns = Array.from({ length: 60 }, (_, k) => {
        for (let x = Math.floor(k * width / 60); x < Math.floor((k + 1) * width / 60); x += 1)
            for (let y = Math.floor(height / 3); y < height; y += 1) if (near(4 * (y * width + x))) return 1;
        return 0;
    });
    return columns.join("");
}"""


def drawn(page: Any, number: int = 1) -> str:
    """Which sixtieths of the sweep hold a line below its upper third."""
    return page.get_by_test_id(f"ecg-{number:08x}").evaluate(PICTURE)  # type: ignore[no-any-return]


def until_drawn(page: Any, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not re.fullmatch(pattern, drawn(page)):
        assert time.monotonic() < deadline, drawn(page)
        page.wait_for_timeout(50)


def test_an_ecg_is_shown_on_demand_with_gaps_and_ends_when_nothing_comes(page: Any, ward: Ward) -> None:
    assert not ward.ecg_asked
    page.get_by_test_id("ecg-show-00000001").click()
    expect(page.get_by_test_id("ecg-note-00000001")).to_have_text(re.compile("no ECG now|waiting"))
    ward.ecg = [ecg_second(600), ecg_second(601), "no record", ecg_second(603), ecg_second(604)]
    until_drawn(page, "1[01]{0,6}1{12,21}0{9,10}1{19,30}0{0,10}")
    expect(page.get_by_test_id("ecg-00000001")).to_have_attribute("data-live", "")
    expect(page.get_by_test_id("ecg-note-00000001")).to_contain_text("not for diagnosis")
    shoot(page, "ecg")
    ward.ecg_goes_on = False
    expect(page.get_by_test_id("ecg-note-00000001")).to_have_text("no ECG now")
    until_drawn(page, "10{59}")  # the bar of a millivolt alone
    assert ward.ecg_asked == ["00000001"]


def test_one_ecg_at_a_time_and_none_without_a_consent(page: Any, ward: Ward) -> None:
    ward.ecg = [ecg_second(6)]
    page.get_by_test_id("ecg-show-00000001").click()
    page.get_by_test_id("ecg-show-00000002").click()
    expect(page.get_by_test_id("ecg-00000002")).to_be_visible()
    expect(page.get_by_test_id("ecg-00000001")).to_be_hidden()
    expect(page.get_by_test_id("ecg-show-00000001")).to_have_attribute("aria-expanded", "false")
    ward.change(boards=[board(1, 72), board(2, 88, consent=False)])
    expect(page.get_by_test_id("ecg-show-00000002")).to_be_hidden()
    expect(page.get_by_test_id("ecg-00000002")).to_be_hidden()


def test_a_board_in_safe_mode_shows_no_number(page: Any, ward: Ward) -> None:
    ward.change(boards=[board(1, 72, mode="safe", vitals={"measures": MEASURES})])
    expect(page.get_by_test_id("why-00000001")).to_have_text("safe mode: measures nothing")
    expect(hr(page, 1)).to_have_text("--")
    expect(page.get_by_test_id("measure-4-00000001")).to_have_text("--")


@pytest.mark.parametrize("fault", ["silent", "refusing", "stuck"])
def test_lost_connection_turns_everything_to_dashes(page: Any, ward: Ward, fault: str) -> None:
    expect(hr(page, 1)).to_have_text("72")
    if fault == "stuck":
        ward.stuck_ms = int(time.time() * 1000)
    else:
        setattr(ward, fault, True)
    began = time.monotonic()
    expect(page.get_by_test_id("connection-banner")).to_be_visible()
    assert 2.0 < time.monotonic() - began < 30
    for dashed in ("hr-00000001", "hr-00000002", "quality-00000001", "pads-00000001", "server-time", "link-qber-gw-1"):
        expect(page.get_by_test_id(dashed)).to_have_text("--")
    expect(page.get_by_test_id("connection-banner")).to_contain_text("Nothing on this page is current")
    expect(page.get_by_test_id("speak-now")).to_contain_text("Connection to the server lost")
    expect(page.get_by_test_id("simulated-banner")).to_be_visible()
    shoot(page, f"lost-{fault}")

    ward.silent, ward.refusing, ward.stuck_ms = False, False, None
    expect(hr(page, 1)).to_have_text("72")
    expect(page.get_by_test_id("connection-banner")).to_be_hidden()


def test_answers_that_are_no_state_are_no_news(page: Any, ward: Ward) -> None:
    expect(hr(page, 1)).to_have_text("72")
    ward.change(boards="none")
    expect(page.get_by_test_id("connection-banner")).to_contain_text("no boards")
    expect(hr(page, 1)).to_have_text("--")


def test_polls_where_events_do_not_come(browser: Any, ward: Any) -> None:
    ward.without_events = True
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(ward.url)
        expect(hr(page, 1)).to_have_text("72")
        ward.change(boards=[board(1, 99)])
        expect(hr(page, 1)).to_have_text("99")


def flashes_per_second(alarm_row: Any) -> list[float]:
    timings = alarm_row.evaluate("row => row.getAnimations().map(one => one.effect.getComputedTiming().duration)")
    return [1000 / duration for duration in timings]


def test_alarms_come_in_the_order_of_their_priority_and_flash(page: Any, ward: Ward) -> None:
    ward.change(
        alarms=[
            alarm("t", "technical", "lead_off"),
            alarm("l", "low", "lead_off"),
            alarm("m", "medium", "lead_off"),
            alarm("h", "high"),
            alarm("e", "high", active=False, ended_ms=int(time.time() * 1000)),
        ]
    )
    expect(page.get_by_test_id("alarm-h")).to_contain_text("No heartbeat detected")
    levels = page.get_by_test_id("alarms").locator("> li").evaluate_all("rows => rows.map(row => row.dataset.level)")
    assert levels == ["high", "medium", "low"]
    expect(page.get_by_test_id("alarms-technical").get_by_test_id("alarm-t")).to_be_visible()
    (high,) = flashes_per_second(page.get_by_test_id("alarm-h"))
    (medium,) = flashes_per_second(page.get_by_test_id("alarm-m"))
    assert 1.4 <= high <= 2.8
    assert 0.4 <= medium <= 0.8
    assert flashes_per_second(page.get_by_test_id("alarm-l")) == []
    shades = page.get_by_test_id("alarm-h").evaluate(
        """row => new Promise(done => {
            const seen = new Set();
            const look = setInterval(() => seen.add(getComputedStyle(row).backgroundColor), 40);
            setTimeout(() => { clearInterval(look); done(seen.size); }, 1100);
        })"""
    )
    assert shades == 2
    expect(page.get_by_test_id("tile-alarm-00000001")).to_contain_text("No heartbeat detected")
    expect(page.get_by_test_id("speak-now")).to_have_text(
        "High priority: No heartbeat detected, patient 1, board 00000001"
    )
    expect(page.get_by_test_id("alarms-ended")).to_contain_text("No heartbeat detected")
    shoot(page, "alarm-order")


def test_acknowledged_alarm_stops_flashing_and_stays(page: Any, ward: Ward) -> None:
    ward.change(alarms=[alarm("a/1", "high")])
    row = page.get_by_test_id("alarm-a/1")
    button = page.get_by_test_id("acknowledge-a/1")
    button.focus()
    page.wait_for_timeout(600)  # some states later the focus is still there: a nurse with a keyboard reaches the button
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("acknowledged-a/1")).to_be_visible()
    expect(button).to_be_hidden()
    assert ward.acknowledged == ["a%2F1"]
    ward.change(alarms=[alarm("a/1", "high", acknowledged=True)])
    expect(row).to_be_visible()
    expect(page.get_by_test_id("acknowledged-a/1")).to_contain_text("audio paused")
    assert flashes_per_second(row) == []
    ward.change(alarms=[])
    expect(row).to_have_count(0)
    expect(page.get_by_test_id("no-alarms")).to_have_text("No active alarms.")


def test_acknowledgement_that_fails_says_so(page: Any, ward: Ward) -> None:
    ward.change(alarms=[alarm("a1", "high")])
    button = page.get_by_test_id("acknowledge-a1")
    expect(button).to_be_visible()
    page.route("**/acknowledge", lambda route: route.fulfill(status=500))
    button.click()
    expect(page.get_by_test_id("alarm-problem")).to_contain_text("Not acknowledged")
    expect(button).to_be_enabled()


def test_reduced_motion_does_not_flash(browser: Any, ward: Any) -> None:
    ward.change(alarms=[alarm("a1", "high")])
    with browser.new_context(reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(ward.url)
        row = page.get_by_test_id("alarm-a1")
        expect(row).to_be_visible()
        assert flashes_per_second(row) == []
        expect(row).to_have_css("background-color", re.compile(r"rgb\(1[6-9]\d|rgb\(2\d\d"))


def test_rounds_say_what_was_opened_and_why_not(page: Any, ward: Ward) -> None:
    expect(page.get_by_test_id("round-8-heart-rate")).to_have_text("77.4 ± 11.3 bpm (12 boards)")
    expect(page.get_by_test_id("round-8-histogram").locator("svg")).to_have_attribute(
        "aria-label", re.compile("60-74 bpm: 5")
    )
    expect(page.get_by_test_id("round-8-latency")).to_have_text("1,840 ms")
    expect(page.get_by_test_id("round-7-cells")).to_contain_text(
        "too few patients: nothing is opened below the smallest group"
    )
    expect(page.get_by_test_id("round-7-heart-rate")).to_have_text("nothing opened")
    ward.change(
        rounds=[
            void_round(9) | {"cells": [], "reason": "4 patients, min_group is 10: no cell"},
            void_round(8) | {"cells": [{"id": 0, "state": "void", "reason": "nothing of gw-2 until the deadline"}]},
        ]
    )
    expect(page.get_by_test_id("round-9-cells")).to_contain_text("too few patients")
    expect(page.get_by_test_id("round-8-cells")).to_contain_text("a gateway did not answer in time")
    rows = (
        page.get_by_test_id("rounds").locator("tbody > tr").evaluate_all("rows => rows.map(row => row.dataset.testid)")
    )
    assert rows == ["round-9", "round-8"]


def test_links_and_refusals(page: Any, ward: Ward) -> None:
    expect(page.get_by_test_id("link-qber-gw-1")).to_have_text("2.13 %")
    expect(page.get_by_test_id("link-stored-gw-1")).to_have_text("412")
    expect(page.get_by_test_id("link-produced-gw-1")).to_have_text("1,843,200")
    expect(page.get_by_test_id("refused-gw-1")).to_contain_text("replayed (replay): 3")
    expect(page.get_by_test_id("refused-server")).to_contain_text("bad signature (signature): 2")
    unreachable = {"state": "unreachable: kme_down", "qber": None, "stored_keys": 0}
    ward.change(gateways=[ward.state["gateways"][0] | {"link": LINK | unreachable}])
    expect(page.get_by_test_id("link-state-gw-1")).to_have_text("unreachable: kme down")
    expect(page.get_by_test_id("link-stored-gw-1")).to_have_text("--")
    ward.change(gateways=[ward.state["gateways"][0] | {"link": None}])
    expect(page.get_by_test_id("link-gw-1")).to_contain_text("keys come from the post-quantum ratchet")
    expect(page.get_by_test_id("link-qber-gw-1")).to_have_text("--")


def test_a_quarantine_says_why_and_how_a_person_ends_it(page: Any, ward: Ward) -> None:
    expect(page.get_by_test_id("no-quarantines")).to_have_text("Nobody is quarantined.")
    ward.change(quarantines=[quarantine("patient", "p 7/8"), quarantine("gateway", "gw-2")])
    row = page.get_by_test_id("quarantine-patient-p 7/8")
    expect(row).to_contain_text("patient p 7/8")
    expect(row).to_contain_text("(10 min), round 41")
    expect(page.get_by_test_id("evidence-patient-p 7/8")).to_contain_text("within the clipping bound")
    expect(page.get_by_text("qepa quarantine end KIND NAME")).to_be_visible()
    ward.change(quarantines=[quarantine("gateway", "gw-2")])  # a person ended one, elsewhere
    expect(row).to_have_count(0)
    expect(page.get_by_test_id("quarantine-gateway-gw-2")).to_be_visible()


def test_privacy_is_shown_by_purpose_and_what_is_not_asked_for_with_the_reason(page: Any, ward: Ward) -> None:
    shown = {
        "noise-statistics": "none: sums are exact",
        "budget-statistics": "no limit set",
        "worst-statistics": "no bound (sums without noise)",
        "noise-learning": "sums carry noise",
        "budget-learning": "epsilon 8 at delta 0.000001 in 30 days",
        "worst-learning": "epsilon 7.412, 8.3 % left",
        "median-learning": "epsilon 4.1, 71 % left",
    }
    for name, text in shown.items():
        expect(page.get_by_test_id(f"privacy-{name}")).to_have_text(text)
    expect(page.get_by_test_id("not-asked").locator("li")).to_have_count(0)
    refusal = "learning: 4 patients have budget and have not withdrawn, min_group is 10"
    ward.change(not_asked_for=[refusal], privacy=[])
    expect(page.get_by_test_id("not-asked")).to_have_text(f"Not asked for: {refusal}")
    expect(page.get_by_test_id("privacy-learning")).to_have_count(0)


def test_an_audit_log_that_gateways_contradict_is_an_alarm(page: Any, ward: Ward) -> None:
    expect(page.get_by_test_id("audit")).to_have_text("1,204 entries. Countersigned by gw-1 to entry 1,190.")
    expect(page.get_by_test_id("audit-alarm")).to_be_hidden()
    held = {"entries": 900, "kept": {}, "contradicted": {"gw-1": 1190}}
    ward.change(audit=held | {"refused": {"gw-1": "it went back", "gw-2": "the log was rewritten"}})
    expect(page.get_by_test_id("audit-alarm")).to_have_text(
        "Gateway gw-1 countersigned entry 1,190 of another audit log than this: the server's log was cut off, put "
        "back or rewritten. Gateway gw-2 refuses the audit log: the log was rewritten."
    )
    expect(page.get_by_test_id("audit")).to_have_text("900 entries. No gateway has countersigned it yet.")


def test_links_say_threat_rekeying_and_how_far_releases_have_come(page: Any, ward: Ward) -> None:
    expect(page.get_by_test_id("link-threat-gw-1")).to_have_text("normal")
    expect(page.get_by_test_id("link-rekey-gw-1")).to_have_text("every 30 s")
    expect(page.get_by_test_id("rollout-model-gw-1")).to_have_text("v7: with all boards")
    gateway = ward.state["gateways"][0]
    firmware = {"kind": "firmware ecg", "version": 12, "stage": "refused", "canary": None, "failed": 0, "reason": "mac"}
    ward.change(
        gateways=[
            gateway
            | {
                "link": LINK | {"threat_level": "high", "rekey_s": None},
                "rollouts": [MODEL | {"stage": "canary", "failed": 1}, firmware],
            }
        ]
    )
    expect(page.get_by_test_id("link-threat-gw-1")).to_have_text("high: signs of an attack")
    expect(page.get_by_test_id("link-rekey-gw-1")).to_have_text("--")
    expect(page.get_by_test_id("rollout-model-gw-1")).to_have_text("v7: with one board first (00000001), 1 failed")
    expect(page.get_by_test_id("rollout-firmware ecg-gw-1")).to_have_text("v12: refused, mac")
    ward.change(gateways=[gateway | {"rollouts": [MODEL | {"stage": "withdrawn", "failed": 3}]}])
    expect(page.get_by_test_id("rollout-model-gw-1")).to_have_text("v7: withdrawn: boards failed with it, 3 failed")


def test_simulation_is_said_and_synthetic_is_not_called_real(page: Any, ward: Ward) -> None:
    banner = page.get_by_test_id("simulated-banner")
    expect(banner).to_have_text(
        "Simulated ward: recordings of real people (source MIT-BIH Arrhythmia Database), virtual optical link"
    )
    ward.change(data_source="synthetic ECG (ECGSYN)")
    expect(banner).to_contain_text("no real people")
    ward.change(simulated=False)
    expect(banner).to_be_hidden()


def test_names_never_become_markup(page: Any, ward: Ward) -> None:
    rounds = [
        void_round(7)
        | {"state": HOSTILE, "cells": [{"id": HOSTILE, "gateways": [HOSTILE], "state": "void", "reason": HOSTILE}]}
    ]
    gateways = [
        ward.state["gateways"][0] | {"name": HOSTILE, "link": LINK | {"state": HOSTILE}, "refused": {HOSTILE: 1}}
    ]
    ward.change(
        boards=[board(1, 72, patient=HOSTILE, gateway=HOSTILE, key_source=HOSTILE, vitals={"beat_class": HOSTILE})],
        alarms=[alarm(HOSTILE, HOSTILE, HOSTILE, patient=HOSTILE), alarm("constructor", "__proto__", "toString")],
        rounds=rounds,
        gateways=gateways,
        refused={HOSTILE: 1, "__proto__": 2},
        quarantines=[quarantine(HOSTILE, HOSTILE, sentence=HOSTILE)],
        not_asked_for=[HOSTILE],
        privacy=[privacy(HOSTILE, {"spent_epsilon": HOSTILE}, {"left": HOSTILE}, budget_epsilon=HOSTILE)],
        audit={
            "entries": 3,
            "kept": {HOSTILE: 1},
            "contradicted": {HOSTILE: HOSTILE},
            "refused": {"__proto__": HOSTILE},
        },
        data_source=HOSTILE,
    )
    expect(page.get_by_test_id("patient-00000001")).to_have_text(HOSTILE)
    expect(page.get_by_test_id("simulated-banner")).to_contain_text(HOSTILE)
    expect(page.get_by_test_id("round-7-cells")).to_contain_text(HOSTILE)
    expect(page.get_by_test_id(f"alarm-{HOSTILE}")).to_have_attribute("data-level", "high")
    assert page.evaluate("document.querySelectorAll('img, body script').length") == 0
    assert page.evaluate("window.hacked") is None


def test_trend_shows_a_gap_as_a_gap(page: Any) -> None:
    runs = page.evaluate(
        """async () => {
            const { Trend } = await import("/js/trend.js");
            const trend = new Trend();
            for (const t of [0, 1000, 2000]) trend.add(t, 70);
            trend.add(3000, null);
            for (const t of [4000, 5000]) trend.add(t, 71);
            trend.add(30000, 72);
            trend.add(30000, 73);
            return trend.runs().map(run => run.map(point => point.hrBpm));
        }"""
    )
    assert runs == [[70, 70, 70], [71, 71], [72]]


def test_trend_is_drawn(page: Any) -> None:
    expect(hr(page, 1)).to_have_text("72")
    painted = page.get_by_test_id("trend-00000001").evaluate(
        """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
            .data.some(value => value > 0)"""
    )
    assert painted


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["desktop", "phone"])
def test_fits_the_screen(browser: Any, ward: Any, scheme: str, size: tuple[int, int]) -> None:
    rates = [72, 88, 61, 104, 95, 58, 77, 83, None, 69, 131, 90]
    boards = [board(number, rate) for number, rate in enumerate(rates, 1)]
    boards[3]["consent"] = False
    boards[4]["vitals"] |= {"hr_bpm": None, "age_ms": 12_400}
    boards[5] |= {"key_source": "ratchet", "pads": 0}
    boards[8]["vitals"] |= {"lead_off": True, "quality_percent": 8}
    boards[9]["patient"] = "Maximiliane-Alexandra von und zu Hohenwaldeck-Unterfrauenfeld"
    boards[10]["vitals"] |= {"beat_class": "V", "quality_percent": 38}
    ward.change(
        boards=boards,
        alarms=[
            alarm("h", "high", board="00000005", patient="patient 5"),
            alarm("m", "medium", "lead_off", board="00000009", patient="patient 9", acknowledged=True),
            alarm("t", "technical", "lead_off", board="00000009", patient="patient 9"),
        ],
        gateways=[
            ward.state["gateways"][0] | {"link": LINK | {"threat_level": "elevated"}},
            ward.state["gateways"][0] | {"name": "gw-2", "link": None, "refused": {}},
        ],
        quarantines=[
            quarantine("patient", "p-1-7"),
            quarantine("gateway", "gw-3", sentence="62% of 40 cells with it gave no valid sum; by chance: p = 3e-09"),
        ],
        not_asked_for=["learning: 4 patients have budget and have not withdrawn, min_group is 10"],
        audit={
            "entries": 1204,
            "kept": {"gw-1": 1190},
            "contradicted": {},
            "refused": {"gw-2": "the log was rewritten"},
        },
    )
    width, height = size
    with browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(ward.url)
        expect(hr(page, 1)).to_have_text("72")
        if SHOTS:
            for step in range(40):
                ward.change(boards=[board(1, 72 + step % 7), *ward.state["boards"][1:]])
                page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert float(hr(page, 1).evaluate("node => parseFloat(getComputedStyle(node).fontSize)")) >= 64
        shoot(page, f"{'desktop' if width > 600 else 'phone'}-{scheme}")
