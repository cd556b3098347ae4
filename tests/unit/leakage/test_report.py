"""The report: signed, and anything that was changed since shows."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from qepa_tools.cli import app
from qepa_tools.leakage.study import AuditSettings
from qepa_tools.leakage.wards import Size
from qepa_uplink.identity import Root

SMALL = ["--synthetic", "--quick", "--shadows", "24", "--rounds", "1", "--epsilon", "0,8"]


def run(*options):
    return CliRunner().invoke(app, ["audit", "privacy", *map(str, options)])


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    place = tmp_path_factory.mktemp("audit")
    root = Root.open(place / "root.key")
    (place / "root.pub").write_bytes(root.public_key)
    root.issue("auditor-1", "server").save(place / "auditor.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Size, "quick", lambda size: replace(size, patients=48))
        patch.setattr(AuditSettings, "quick", lambda asked: replace(asked, trials=300, targets=1))
        result = run(*SMALL, "--out", place / "out", "--identity", place / "auditor.json", "--json")
    assert result.exit_code == 0, result.output
    return place, json.loads(result.stdout)


def test_the_report_says_what_was_found_and_how(signed):
    place, facts = signed
    assert facts["signed"] is True
    assert facts["data"]["source"] == "synthetic beats"
    assert [bound["holds"] for bound in facts["bounds"]] == [True]
    assert facts["bounds"][0]["lower"]["epsilon_gaussian"] <= facts["bounds"][0]["claimed"]
    open_update = [a for a in facts["attacks"] if a["observer"].startswith("one board") and not a["epsilon"]]
    assert open_update[0]["online"]["auc"]["value"] == 1.0
    page = (place / "out" / "report.html").read_text()
    assert "What learning tells about one patient" in page
    for name in ("privacy_roc.png", "privacy_reconstruction.png", "privacy_epsilon.png"):
        assert (place / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_signed_report_holds(signed):
    place, _ = signed
    result = run("--verify", place / "out" / "report.json", "--root", place / "root.pub", "--json")
    assert (result.exit_code, json.loads(result.stdout)["signed_by"]) == (0, "auditor-1")
    assert run("--verify", place / "out" / "report.json").exit_code == 2


def altered(place, tmp_path, change):
    for file in (place / "out").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    return run("--verify", tmp_path / "report.json", "--root", place / "root.pub", "--json")


def rewrite(change):
    def at(directory):
        record = json.loads((directory / "report.json").read_text())
        change(record)
        (directory / "report.json").write_text(json.dumps(record))

    return at


CHANGES = {
    "a figure": rewrite(lambda r: r["facts"]["bounds"][0].update(claimed=99.0)),
    "a digest": rewrite(lambda r: r["facts"]["files"].update({"report.html": "0" * 64})),
    "no signature": rewrite(lambda r: r.update(signature=None)),
    "a signature of nothing": rewrite(lambda r: r.update(signature="00" * 3309)),
    "no text": rewrite(lambda r: r.update(signature=7)),
    "no certificate": rewrite(lambda r: r.update(certificate={"body": "", "signature": ""})),
    "no facts": rewrite(lambda r: r.pop("facts")),
    "a list": lambda directory: (directory / "report.json").write_text("[]"),
    "the page": lambda directory: (directory / "report.html").write_text("all is well"),
    "a plot gone": lambda directory: (directory / "privacy_roc.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_was_changed_does_not_hold(signed, tmp_path, change):
    result = altered(signed[0], tmp_path, change)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["holds"] is False


def test_another_root_does_not_vouch_for_it(signed, tmp_path):
    (tmp_path / "root.pub").write_bytes(Root.open(tmp_path / "root.key").public_key)
    assert run("--verify", signed[0] / "out" / "report.json", "--root", tmp_path / "root.pub").exit_code == 2


@pytest.mark.parametrize(
    "options",
    [["--epsilon", "x"], ["--epsilon", "-1"], ["--shadows", "3"], ["--identity", "keys.json"], ["--data", "nowhere"]],
)
def test_what_makes_no_sense_is_refused_in_one_line(options):
    result = run(*options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
