"""The shelf keeps the newest model that fits its name and its card, through restarts and torn files."""

import hashlib
import json
import shutil

import pytest

from qepa_gateway.errors import Refused
from qepa_gateway.inference.runtime import InferenceError
from qepa_gateway.inference.shelf import SHIPPED, ModelShelf
from qepa_uplink.bedside_models import ECG_BEATS, ECG_QUALITY


def blob_of(name):
    return (SHIPPED / f"{name}.tflite").read_bytes()


def card(name, version, blob, **facts):
    return {"name": name, "version": version, "sha256": hashlib.sha256(blob).hexdigest(), **facts}


@pytest.fixture
def shelf(tmp_path):
    return ModelShelf(tmp_path)


@pytest.mark.parametrize("name", [ECG_BEATS, ECG_QUALITY])
def test_what_ships_is_there_at_once_with_its_card(shelf, name):
    model, facts = shelf.get(name)
    assert facts["name"] == name
    assert facts["metrics"]
    assert facts["limits"]
    assert len(facts["persons"]) > 20
    assert len(blob_of(name)) < 60_000
    assert shelf.get(name)[0] is model  # loaded once
    assert not shelf.faults


def test_a_newer_model_takes_its_place_and_stays_through_a_restart(shelf, tmp_path):
    blob, before = blob_of(ECG_BEATS), shelf.version(ECG_BEATS)
    shelf.put(ECG_BEATS, before + 1, card(ECG_BEATS, before + 1, blob, origin="pushed"), blob)
    shelf.put(ECG_BEATS, before + 9, card(ECG_BEATS, before + 9, blob), blob)
    for each in (shelf, ModelShelf(tmp_path)):
        assert each.version(ECG_BEATS) == before + 9
    kept = sorted(path.name for path in (tmp_path / "models" / ECG_BEATS).iterdir())
    assert kept == [f"{before + 9}.json", f"{before + 9}.tflite"]
    assert ModelShelf(tmp_path / "other").version(ECG_BEATS) == before


def test_what_does_not_fit_is_refused_and_changes_nothing(shelf, tmp_path):
    blob, version = blob_of(ECG_BEATS), shelf.version(ECG_BEATS)
    other = blob_of(ECG_QUALITY)
    with pytest.raises(Refused):
        shelf.put(ECG_BEATS, version, card(ECG_BEATS, version, blob), blob)
    for name, number, facts, content in [
        (ECG_BEATS, 9, card(ECG_BEATS, 9, other), other),  # the model of another name
        (ECG_BEATS, 9, card(ECG_QUALITY, 9, blob), blob),  # another's card
        (ECG_BEATS, 9, card(ECG_BEATS, 8, blob), blob),  # another version's
        (ECG_BEATS, 9, card(ECG_BEATS, 9, other), blob),  # another blob's
        (ECG_BEATS, 9, card(ECG_BEATS, 9, blob, story="x" * 300_000), blob),
        ("beats", 9, card("beats", 9, blob), blob),
        (ECG_BEATS, 9, card(ECG_BEATS, 9, b""), b""),
    ]:
        with pytest.raises(InferenceError):
            shelf.put(name, number, facts, content)
    assert not (tmp_path / "models").exists()
    assert shelf.version(ECG_BEATS) == version
    with pytest.raises(Refused):
        ModelShelf(None).put(ECG_BEATS, 9, card(ECG_BEATS, 9, blob), blob)


@pytest.mark.parametrize("torn", ["blob", "card", "no blob"])
def test_a_file_that_was_damaged_is_passed_over_and_said(shelf, tmp_path, torn):
    blob, before = blob_of(ECG_BEATS), shelf.version(ECG_BEATS)
    shelf.put(ECG_BEATS, before + 1, card(ECG_BEATS, before + 1, blob), blob)
    place = tmp_path / "models" / ECG_BEATS / f"{before + 1}.tflite"
    if torn == "blob":
        place.write_bytes(blob[:-1] + b"?")
    elif torn == "card":
        place.with_suffix(".json").write_text("{")
    else:
        place.unlink()
    again = ModelShelf(tmp_path)
    assert again.version(ECG_BEATS) == before
    assert again.faults[ECG_BEATS]


def test_without_any_model_there_is_none(tmp_path):
    shelf = ModelShelf(None, shipped=tmp_path)
    assert shelf.version(ECG_BEATS) == 0
    with pytest.raises(InferenceError, match="no usable model"):
        shelf.get(ECG_BEATS)
    shutil.copy(SHIPPED / f"{ECG_BEATS}.tflite", tmp_path)
    facts = json.loads((SHIPPED / f"{ECG_BEATS}.json").read_text())
    (tmp_path / f"{ECG_BEATS}.json").write_text(json.dumps({**facts, "version": True}))
    assert shelf.version(ECG_BEATS) == 0
