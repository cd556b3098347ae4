"""`qepa evaluate`: one object, one page, one sentence."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from qepa_tools.cli import app
from qepa_tools.evaluation.report import INFLATED


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", *arguments])


@pytest.fixture
def folder(write_record, tmp_path: Path) -> Path:
    for k, symbols in enumerate(("NNNV", "NNNNA", "NVVVN", "N", "NNF", "NNNNNV")):
        write_record(tmp_path, f"r{k}", symbols=symbols)
    write_record(tmp_path, "bare", symbols="")
    return tmp_path


def test_cross_validation_as_json(folder: Path) -> None:
    done = run("--data", str(folder), "--cache", str(folder / "c"), "--model", "cross-validate", "--json")
    assert done.exit_code == 0
    body = json.loads(done.stdout)
    assert (body["persons"], body["records"]) == (6, [f"r{k}" for k in range(6)])
    assert "no beat annotations" in body["left_out"]["bare"]
    assert sum(sum(row) for row in body["confusion"]) >= body["beats"] > 60
    assert 0 <= body["intervals_95"]["accuracy"][0] <= body["accuracy"] <= body["intervals_95"]["accuracy"][1] <= 1
    assert body["inflated_split_by_beat"]["beats"] == body["beats"]
    assert set(body["calibration"]) == {"answer", "N", "S", "V"}
    assert body["per_record"]["r3"]["sensitivity"][2] is None
    assert body["ventricular_runs"]["r2"]["runs"] > 0


def test_the_shipped_model_on_people_it_does_not_know_with_a_page(folder: Path) -> None:
    out = folder / "report"
    done = run("--data", str(folder), "--cache", str(folder / "c"), "--records", "r0,r2", "--out", str(out))
    assert done.exit_code == 0
    assert "The model shipped, on people who were not in its training." in done.stdout
    assert "INFLATED" not in done.stdout
    page = (out / "report.html").read_text()
    assert "Not a medical device" in page
    assert "http" not in page.replace("http-equiv", "")
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert {"calibration.png", "classes.png", "confusion.png", "records.png"} <= set(pictures)
    assert page.count("data:image/png;base64,") == len(pictures)


def test_the_split_by_beat_is_only_shown_as_inflated(folder: Path) -> None:
    done = run("--data", str(folder), "--cache", str(folder / "c"), "--model", "cross-validate")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].rstrip().endswith(INFLATED)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--records", "r0,zz"], "holds no record zz"),
        (["--records", "r0,r1", "--model", "cross-validate"], "at least 4 persons, there are 2"),
        (["--model", "nowhere.json"], "nowhere.json cannot be read"),
        (["--mains", "40"], "--mains has to be 50 or 60"),
        (["--persons", "nowhere"], "can't be read"),
        (["--noise", "."], "holds none of the Noise Stress records"),
        (["--records", "bare"], "No record"),
    ],
)
def test_one_sentence_and_status_2(folder: Path, arguments: list[str], sentence: str) -> None:
    done = run("--data", str(folder), "--cache", str(folder / "c"), *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert done.stdout == ""
