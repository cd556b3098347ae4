"""What the screens and pictures of a link say, and what they must never say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from qepa_qkd.finite_key import CurvePoint
from qepa_qkd.serial_protocol import STATE_GONE
from qepa_tools.errors import ToolError
from qepa_tools.link import plots
from qepa_tools.link.align import Matrix
from qepa_tools.link.attack import Phase, chosen, outcome, phase
from qepa_tools.link.big_digits import big
from qepa_tools.link.live import link_view, sparkline
from qepa_tools.link.monitor import BlockRecord, LinkView
from qepa_tools.link.run import Ending
from qepa_tools.link.summary import summary

BLOCK = BlockRecord(1000.0, 0.01, 0.012, 120_000, 20_000, None, 20_000, 4.0, True)
LOST = BlockRecord(1004.0, None, 0.25, 120_000, 0, "QBER 25.0 % is over the threshold of 8.0 %", 20_000, 4.0, True)
VIEW = LinkView(
    simulated=True,
    seconds=8.0,
    states={"alice": "running", "bob": "running"},
    qber_key=0.01,
    qber_test=0.012,
    qber_threshold=0.08,
    stock_bits=20_000,
    blocks=2,
    blocks_without_key=1,
    last_reason=LOST.reason,
    alarms={},
    threat_level="normal",
    rekey_s=30.0,
    frames_lost=0,
    sifted_bps=30_000.0,
    key_bits_per_minute=300_000.0,
    key_bits=20_000,
    made=[BLOCK, LOST],
)


def screen(view: LinkView) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(link_view(view))
    return console.export_text()


def test_a_sparkline_spans_its_scale_and_shows_what_is_missing() -> None:
    assert sparkline([0.0, 0.5, 1.0, 2.0, None], 1.0) == "▁▄██·"
    assert sparkline([1.0] * 50, 1.0, width=40) == "█" * 40
    assert sparkline([0.0], 0.0) == "▁"
    assert sparkline([0.9, 0.95, 1.0], 1.0, bottom=0.9) == "▁▄█"


def test_the_screen_names_figures_alarms_and_reason() -> None:
    text = screen(replace(VIEW, alarms={"QBER": "25 % is over 8 %"}, threat_level="high"))
    for wanted in (
        "Simulated",
        "1.00 %",
        "1.20 %",
        "300,000 bit/min",
        "QBER: 25 % is over 8 %",
        "high",
        "1 without key",
    ):
        assert wanted in text


def test_a_real_bench_is_not_called_simulated_and_a_missing_figure_is_no_number() -> None:
    text = screen(replace(VIEW, simulated=False, qber_key=None))
    assert "Simulated" not in text
    assert "--" in text


def test_a_summary_has_totals_of_the_watch_and_only_the_newest_blocks() -> None:
    said = summary(replace(VIEW, blocks=5000, key_bits=10**8))
    assert (said["blocks"], said["key_bits"], len(said["newest_blocks"])) == (5000, 10**8, 2)
    assert said["newest_blocks"][1]["reason"] == LOST.reason
    assert summary(None) == {"blocks": 0}


def test_a_watch_ends_when_told_and_not_before() -> None:
    assert not Ending().reached(VIEW)
    assert Ending(blocks=1).reached(VIEW)
    assert not Ending(blocks=2).reached(VIEW)  # one of its two gave none
    assert Ending(seconds=8.0).reached(VIEW)


def test_visibility_is_of_the_basis_that_was_sent() -> None:
    matrix = Matrix()
    # H sent: 90 in H, 10 in V, 50 in D (another basis: no part of a visibility); one slot is unknown.
    detectors = np.repeat(np.array([0, 1, 2, 3], np.uint8), [90, 10, 50, 1])
    states = np.concatenate([np.zeros(150, np.uint8), np.array([STATE_GONE], np.uint8)])
    matrix.add(0.0, 0.5, detectors, detectors, states)
    assert matrix.visibility([0]) == pytest.approx(0.8)
    assert matrix.visibility((2, 3)) is None
    assert matrix.rates_hz() == [180.0, 20.0, 100.0, 2.0]
    assert matrix.counts().sum() == 150


def test_a_hand_is_followed_because_old_clicks_leave_the_window() -> None:
    matrix = Matrix(window_s=1.0)
    right, wrong = np.zeros(100, np.uint8), np.ones(100, np.uint8)
    matrix.add(0.0, 0.25, wrong, wrong, np.zeros(100, np.uint8))
    matrix.add(2.0, 0.25, right, right, np.zeros(100, np.uint8))
    assert matrix.visibility((0, 1)) == 1.0


def test_intensity_does_not_change_which_state_was_sent() -> None:
    matrix = Matrix()
    detectors = np.array([3, 3, 3], np.uint8)
    matrix.add(0.0, 1.0, detectors, detectors, np.array([3, 3 | 1 << 2, 3 | 2 << 2], np.uint8))
    assert matrix.counts()[3, 3] == 3


def test_big_digits_are_five_lines_of_one_width() -> None:
    lines = big("97.3%").splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1


UNDISTURBED = Phase(2, 2, 20_000.0, 0.01, 0.012, ())


@pytest.mark.parametrize(
    ("with_key", "key_bits", "verdict"),
    [(0, 0.0, "stopped"), (2, 9_000.0, "paid for"), (2, 19_900.0, "unnoticed"), (1, 10_000.0, "paid for")],
)
def test_a_verdict_follows_from_the_keys(with_key: int, key_bits: float, verdict: str) -> None:
    assert outcome(UNDISTURBED, Phase(2, with_key, key_bits, None, None, ())) == verdict


def test_a_phase_averages_what_is_known() -> None:
    summed = phase([BLOCK, LOST])
    assert (summed.blocks, summed.with_key, summed.key_bits) == (2, 1, 10_000)
    assert summed.qber_key == 0.01
    assert summed.qber_test == pytest.approx(0.131)
    assert summed.reasons == (LOST.reason,)


@pytest.mark.parametrize("text", ["none", "eavesdropping", "blinding strength=3"])
def test_what_is_no_attack_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ToolError):
        chosen(text)


def words(figure: Any) -> str:
    return plots.svg(figure)


def test_pictures_of_a_stand_in_say_so_and_others_do_not() -> None:
    real = [replace(block, simulated=False) for block in (BLOCK, LOST)]
    for draw in (lambda b: plots.error_rates(b, 0.08), lambda b: plots.key_rate(b, 20.0)):
        assert plots.SIMULATED in words(draw([BLOCK, LOST]))
        assert plots.SIMULATED not in words(draw(real))
    points = [CurvePoint("Lim2014", float(at), 0.3, 1000.0 / at) for at in (1, 2, 3)]
    for curves in (plots.against_loss, plots.finite_key):
        assert plots.SIMULATED in words(curves(points, [(2.0, 400.0)], simulated=True))
        assert plots.SIMULATED not in words(curves(points, [], simulated=False))


def test_axes_have_units() -> None:
    assert "QBER (%)" in words(plots.error_rates([BLOCK, LOST], 0.08))
    assert "secret key rate (bit/s)" in words(plots.key_rate([BLOCK, LOST], 20.0))
    assert "(dB)" in words(plots.against_loss([CurvePoint("p", 1.0, 0.1, 10.0)], [], simulated=True))


def test_a_pause_is_not_drawn_as_a_rate() -> None:
    after_pause = replace(BLOCK, t=2000.0, seconds=990.0)
    (rate, _total) = plots.key_rate([BLOCK, after_pause], longest_s=20.0).axes
    assert [len(line.get_xdata()) for line in rate.lines] == [1]


def test_a_single_block_has_no_rate_and_is_drawn_all_the_same() -> None:
    first = replace(BLOCK, seconds=None)
    assert "secret key made (kbit)" in words(plots.key_rate([first], longest_s=20.0))
    assert "QBER (%)" in words(plots.error_rates([replace(first, qber_key=None, qber_test=None)], 0.08))


def test_files_are_written_in_both_formats(tmp_path: Path) -> None:
    files = plots.save(plots.error_rates([BLOCK, LOST], 0.08), tmp_path / "qber")
    assert [file.name for file in files] == ["qber.png", "qber.svg"]
    assert all(file.stat().st_size > 1000 for file in files)
