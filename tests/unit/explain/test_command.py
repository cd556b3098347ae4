"""`qepa explain`: an answer in words, one object, one page, one sentence."""

import json
import re
import shutil
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from qepa_gateway.inference.shelf import ModelShelf
from qepa_tools.cli import app
from qepa_tools.evaluation.model import recording_digest
from qepa_tools.explanation.bedside_story import read_bedside
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.physionet import load_wfdb
from qepa_uplink.beat_reasons import PLAYERS


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["explain", "--data", str(folder), "--cache", str(folder / "c"), *arguments])


def test_a_beat_in_words(folder: Path) -> None:
    done = run(folder, "--record", "r0", "--beat", "12")
    assert done.exit_code == 0, done.stderr
    assert "Record r0, beat 12 at 0:" in done.stdout
    assert "the model that ships, which never saw this person" in done.stdout
    assert "beats of 5 other people" in done.stdout
    assert "Why " in done.stdout
    assert "By part: RR " in done.stdout


def test_one_object_whose_contributions_sum_up(folder: Path) -> None:
    done = run(folder, "--record", "r2", "--at", "12.5", "--json")
    assert done.exit_code == 0, done.stderr
    body = json.loads(done.stdout)
    assert abs(body["at_s"] - 12.5) < 1
    assert sum(r["contribution"] for r in body["reasons"]) == pytest.approx(body["lead"] - body["start"])
    assert sum(body["parts"].values()) == pytest.approx(body["lead"] - body["start"])
    assert sum(body["probabilities"].values()) == pytest.approx(1)


def test_without_a_beat_the_first_ectopic_one_or_the_last(folder: Path) -> None:
    body = json.loads(run(folder, "--record", "r3", "--json").stdout)
    assert body["answer"] != "N" or body["beat"] > 20


def test_the_answer_can_be_compared_with_a_class(folder: Path) -> None:
    done = run(folder, "--record", "r3", "--beat", "8", "--against", "V", "--json")
    body = json.loads(done.stdout)
    assert {body["answer"], body["rival"]} == {"N", "V"}


def test_a_page_without_anything_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--record", "r0", "--beat", "9", "--out", str(tmp_path / "o"))
    assert done.exit_code == 0, done.stderr
    page = (tmp_path / "o" / "r0-9.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "Not a medical device" in page
    assert "http" not in page
    assert (tmp_path / "o" / "r0-9.png").read_bytes().startswith(b"\x89PNG")


def test_whatever_takes_long_on_a_long_record_shows_how_far_it_is(folder: Path) -> None:
    shown = {}

    def track(items: Sequence[Any], what: str) -> Sequence[Any]:
        shown[what] = len(items)
        return items

    setting = read_bedside(folder, "r0", "", FeatureCache(folder / "c"), track, lead=None, mains_hz=60)
    assert shown["Windows of the record's beats"] == len(setting.case.beats.samples)
    assert {"Leads of the record", "Windows of others' beats", "The model's answers"} < set(shown)


def test_a_summary_over_people(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--summary", "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["persons"] == 6
    assert any("written by the developers" in title for title in body)
    assert (tmp_path / "summary.png").exists()


def test_the_gateways_answer_in_words_with_errors_and_a_page(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--record", "r0", "--beat", "12", "--bedside", "--out", str(tmp_path / "o"))
    assert done.exit_code == 0, done.stderr
    assert "the gateway's int8 model that ships, which never saw this person" in done.stdout
    assert "beats of 5 other people" in done.stdout
    assert "(in percentage points; " in done.stdout
    page = unescape((tmp_path / "o" / "r0-12-bedside.html").read_text())
    assert "what the gateway measured" in page
    assert len(re.findall(r" ±\d", page)) == len(PLAYERS)
    assert "exact Shapley values of the difference of two of the model's probabilities" in page
    assert "this patient's usual" in page
    assert (tmp_path / "o" / "r0-12-bedside.png").read_bytes().startswith(b"\x89PNG")


def test_the_gateways_contributions_sum_up(folder: Path) -> None:
    done = run(folder, "--record", "r2", "--at", "12.5", "--bedside", "--against", "F", "--json")
    assert done.exit_code == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["rival"] == "F"
    assert body["unit"] == "percentage points"
    assert {r["feature"] for r in body["reasons"]} == set(PLAYERS)
    assert all(r["error"] >= 0 for r in body["reasons"])
    assert sum(r["contribution"] for r in body["reasons"]) == pytest.approx(body["lead"] - body["start"])
    assert sum(body["parts"].values()) == pytest.approx(body["lead"] - body["start"])
    difference = body["probabilities"][body["answer"]] - body["probabilities"]["F"]
    assert 100 * difference == pytest.approx(body["lead"])
    assert body["unlike_background"] is None


def test_the_gateway_needs_other_people(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("r0.*"):
        shutil.copy(file, tmp_path)
    done = run(tmp_path, "--record", "r0", "--bedside")
    assert done.exit_code == 2
    assert "holds nobody else" in done.stderr


def test_a_model_with_a_card_tells_whom_it_knows(folder: Path, tmp_path: Path) -> None:
    blob, card = ModelShelf(None).shipped("ecg-beats")
    model = tmp_path / "mine.tflite"
    model.write_bytes(blob)
    more = ("--record", "r1", "--bedside", "--model", str(model), "--json")
    assert "does not tell whom" in json.loads(run(folder, *more).stdout)["model"]
    known = recording_digest(load_wfdb(folder, "r1"))
    model.with_suffix(".json").write_text(json.dumps({**card, "trained_on": [known]}))
    assert "TRAINED ON THIS PERSON" in json.loads(run(folder, *more).stdout)["model"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name a record"),
        (["--record", "zz"], "holds no record zz; it holds r0, r1"),
        (["--record", "r0", "--beat", "0"], "has beats 1 to"),
        (["--record", "r0", "--beat", "1", "--at", "2"], "not by both"),
        (["--record", "r0", "--at", "999"], "no beat within 1 s of 999 s; it lasts 30 s"),
        (["--record", "r0", "--beat", "9", "--against", "X"], "cannot be compared with X"),
        (["--record", "r0", "--model", "nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["--record", "r0", "--lead", "V9"], "no lead V9"),
        (["--record", "r0", "--mains", "40"], "--mains has to be 50 or 60"),
        (["--summary", "--record", "r0"], "no --record"),
        (["--summary", "--bedside"], "--bedside"),
        (["--record", "r0", "--bedside", "--model", "nowhere.tflite"], "is no model of the gateway's"),
        (["--record", "r0", "--bedside", "--beat", "9", "--against", "X"], "cannot be compared with X"),
        (["--record", "r0", "--bedside", "--beat", "1"], "whose signal has gaps or runs over"),
    ],
)
def test_one_sentence_and_status_2(folder: Path, arguments: list[str], sentence: str) -> None:
    done = run(folder, *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert done.stdout == ""
