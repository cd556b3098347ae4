"""`qepa model`: what is where, cards, recordings judged, models pushed and taken back under a signature."""

import asyncio
import hashlib
import json
import threading
from pathlib import Path

import pytest
import uvicorn
from hospital_rig import Rig, ward
from typer.testing import CliRunner

from qepa_server.api.app import create_app
from qepa_tools.cli import app
from qepa_tools.evaluation.model import SHIPPED, load_model, save_model

VECTORS = Path(__file__).parents[2] / "vectors"
NAME = "ecg-quality"


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path / "hospital", ward(1, 2))
    rig.connect()
    rig.gateways["gw-1"].status()
    rig.pump()
    return rig


@pytest.fixture
def model(rig, tmp_path, monkeypatch):
    """Runs the command against the hospital's API as its users do; the record that it prints, or its complaint."""
    import time

    rig.now = int(1000 * time.time())
    rig.identities["releaser"].save(tmp_path / "release.json")
    rig.identities["dock"].save(tmp_path / "dock.json")
    monkeypatch.chdir(tmp_path)
    config = uvicorn.Config(
        create_app(rig.hospital, host="127.0.0.1", stopping=asyncio.Event()), port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    def run(*arguments, code=0, text=False):
        options = ["--server", url, *([] if text else ["--json"])]
        done = CliRunner().invoke(app, ["model", *map(str, arguments), *options])
        assert done.exit_code == code, done.output
        if code:
            return done.stderr
        return done.stdout if text else json.loads(done.stdout)

    yield run
    server.should_exit = True
    thread.join()


def changed(tmp_path, by=3):
    """A board's model in a file, others' words than those that ship."""
    shipped = load_model(SHIPPED)
    path = tmp_path / "new.json"
    words = tuple(word + by for word in shipped.words)
    save_model(path, type(shipped)(words=words, hidden=shipped.hidden, trained_on=shipped.trained_on, card={"by": by}))
    return path


def test_what_ships_is_listed_with_how_many_boards_have_it_and_its_card_is_shown(rig, model):
    (board,) = model("list")["models"]
    assert (board["name"], board["version"], board["origin"]) == ("board", 1, "shipped")
    (at,) = board["gateways"]
    assert (at["gateway"], at["boards"], at["with_it"]) == ("gw-1", 2, 2)
    assert "2 of 2" in model("list", text=True)
    shown = model("show", "board")
    assert shown["card"]["measured"]["persons"]
    assert [each["version"] for each in shown["versions"]] == [1]
    assert "accuracy" in model("show", "board", 1, text=True)


def test_a_model_in_a_file_is_pushed_shown_and_taken_back(rig, model, tmp_path):
    first = rig.hospital.registry.current.words
    assert model("push", changed(tmp_path), "--dry-run")["dry_run"]
    assert rig.hospital.registry.current.version == 1
    done = model("push", changed(tmp_path), "--reason", "more people")
    assert (done["version"], done["origin"], done["by"]) == (2, "pushed", "releaser")
    assert rig.hospital.registry.current.words == tuple(word + 3 for word in first)
    assert model("show", "board")["card"]["measured"]["by"] == 3
    back = model("rollback", "board", "--to", 1, "--reason", "told by the ward")
    assert (back["version"], back["origin"]) == (3, "rollback")
    assert rig.hospital.registry.current.words == first
    assert "told by the ward" in model("show", "board", text=True)
    model("push", changed(tmp_path, 5))
    states = [each["state"] for each in model("show", "board")["versions"]]
    assert states == ["prepared", "superseded", "withdrawn", "superseded"]


def test_a_model_of_the_gateways_is_pushed_with_its_card(rig, model, tmp_path):
    blob = (VECTORS / f"{NAME}-1.tflite").read_bytes()
    (tmp_path / "q.tflite").write_bytes(blob)
    card = {"name": NAME, "version": 1, "sha256": hashlib.sha256(blob).hexdigest()}
    (tmp_path / "q.json").write_text(json.dumps(card))
    done = model("push", "q.tflite")
    assert (done["name"], done["version"], done["state"]) == (NAME, 1, "prepared")
    assert [line["name"] for line in model("list")["models"]] == ["board", NAME]
    assert "no TFLite" not in model("show", NAME, text=True)
    (tmp_path / "q.json").write_text(json.dumps(card | {"name": "activity"}))
    assert "takes" in model("push", "q.tflite", code=2)  # of another shape than that name
    (tmp_path / "q.json").write_text(json.dumps(card | {"sha256": "00"}))
    assert "card of another model" in model("push", "q.tflite", code=2)
    (tmp_path / "q.json").write_text("[]")
    assert "no card" in model("push", "q.tflite", code=2)


def test_what_cannot_be_done_is_said_in_a_sentence(rig, model, tmp_path):
    assert "not a release" in model("push", changed(tmp_path), "--identity", "dock.json", code=2)
    assert "cannot read the keys" in model("push", changed(tmp_path), "--identity", "no.json", code=2)
    assert "is no model of a board" in model("push", "dock.json", code=2)
    assert "nowhere.json cannot be read" in model("push", "nowhere.json", code=2)
    assert "no version of board to go back to" in model("rollback", "board", code=2)
    assert "no line of models" in model("rollback", "weather", code=2)
    assert "there is no version 7" in model("show", "board", 7, code=2)
    assert "recordings judge the board's model" in model("evaluate", "ecg-beats", code=2)
    done = CliRunner().invoke(app, ["model", "list", "--server", "http://127.0.0.1:9"])
    assert done.exit_code == 2
    assert "cannot be reached" in done.stderr
    assert rig.hospital.registry.current.version == 1


def test_a_version_that_the_server_holds_is_judged_on_recordings(rig, model, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("qepa_tools.model.cli.judge", lambda **options: asked.update(options, loaded=loaded(options)))

    def loaded(options):
        return load_model(Path(options["model"]))

    made = model("push", changed(tmp_path))
    rig.hospital.registry.facts = lambda _round: {}
    learned = rig.hospital.registry.prepare(rig.hospital.registry.current._replace(version=3), rig.now, round_=1)
    with rig.store.write() as connection:
        rig.hospital.registry.release(connection, learned)
    rig.hospital.registry.adopt(learned)
    assert (made["began"], model("show", "board")["began"]) == (2, 2)
    model("evaluate", "board", "--version", 3, "--data", tmp_path, "--records", "100,101", text=True)
    assert (asked["data"], asked["records"]) == (tmp_path, "100,101")
    assert asked["loaded"].words == rig.hospital.registry.current.words
    assert asked["loaded"].trained_on == load_model(SHIPPED).trained_on  # as its forerunner
