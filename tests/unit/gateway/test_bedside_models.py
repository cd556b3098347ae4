"""Models that the gateway runs: only what the server signed, newer, whole, of its name's shape."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from bedside_rig import Rig, identity, root
from pydantic import ValidationError

from qepa_gateway.core import Gateway, Trusted
from qepa_gateway.inference.shelf import ModelShelf
from qepa_gateway.transport import Outgoing
from qepa_uplink import envelope
from qepa_uplink.bedside_models import MAX_BLOB
from qepa_uplink.messages import BedsideRelease, Status
from qepa_uplink.topics import to_gateway

NAME = "ecg-quality"
FIRST, SECOND, OF_ANOTHER_SHAPE = (
    (Path(__file__).parents[2] / "vectors" / f"{each}.tflite").read_bytes()
    for each in ("ecg-quality-1", "ecg-quality-2", "activity-3")
)


def card(blob=FIRST, version=1, name=NAME, **facts):
    return {"name": name, "version": version, "sha256": sha256(blob).hexdigest()} | facts


def release(blob=SECOND, version=2, name=NAME, **changes):
    fields = {
        "name": name,
        "version": version,
        "digest": sha256(blob).digest(),
        "blob": blob,
        "card": json.dumps(card(blob, version, name)),
    }
    return BedsideRelease.model_validate(fields | changes)


@pytest.fixture
def ward(tmp_path):
    """A gateway that ships one model."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / f"{NAME}.tflite").write_bytes(FIRST)
    (shipped / f"{NAME}.json").write_text(json.dumps(card(accuracy=0.9)))
    rig = Rig(tmp_path, patients=1)

    def start():
        site = rig.site
        trusted = Trusted(identity(site.name, "gateway"), root().public_key, identity("server", "server").subject)
        shelf = ModelShelf(site.directory, shipped)
        site.gateway = Gateway(trusted, site.spool, lambda: rig.now_ms, min_group=10, shelf=shelf)

    rig.restart = start
    start()
    return rig.begin()


def give(ward, message, signer=None):
    data = envelope.sign(signer or ward.server.identity, message)
    ward.deliver(Outgoing(to_gateway("gw-1"), data))
    ward.settle()


def told(ward, name=NAME):
    return next(each for each in ward.site.gateway.bedside_models.status() if each.name == name)


def in_use(ward):
    return ward.site.gateway.inference.shelf.get(NAME)[1]


def test_it_begins_with_what_ships_and_says_so(ward):
    ward.advance(4000)
    status = ward.server.status["gw-1"]
    assert isinstance(status, Status)
    (quality,) = (each for each in status.bedside if each.name == NAME)
    assert (quality.version, quality.shipped, quality.digest) == (1, True, sha256(FIRST).digest())
    assert (told(ward, "activity").version, told(ward, "activity").shipped) == (0, False)


def test_a_newer_one_is_used_at_once_and_after_a_crash(ward):
    ward.site.gateway.inference.errors[NAME] = 9
    give(ward, release())
    assert in_use(ward)["version"] == 2
    assert (told(ward).version, told(ward).shipped, told(ward).errors) == (2, False, 0)
    ward.restart()
    assert (told(ward).version, told(ward).digest) == (2, sha256(SECOND).digest())
    give(ward, release())  # said again
    assert not told(ward).refused


def test_what_ships_comes_back_under_a_new_number_with_its_own_card(ward):
    give(ward, release())
    give(ward, release(FIRST, 3).model_copy(update={"blob": b""}))
    assert (told(ward).version, told(ward).digest) == (3, sha256(FIRST).digest())
    assert in_use(ward)["accuracy"] == 0.9
    give(ward, release(SECOND, 4).model_copy(update={"blob": b""}))  # not what ships here
    assert told(ward).refused_version == 4


REFUSED = {
    "older": release(version=1),
    "truncated": release(SECOND[:-40], digest=sha256(SECOND).digest()),
    "truncated, well named": release(SECOND[: len(SECOND) // 2]),
    "one bit": release(bytes([*SECOND[:900], SECOND[900] ^ 4, *SECOND[901:]]), digest=sha256(SECOND).digest()),
    "another model's": release(OF_ANOTHER_SHAPE),
    "another name": release(OF_ANOTHER_SHAPE, name="weather"),
    "another card": release(card=json.dumps(card(FIRST, 2))),
    "a card of another version": release(card=json.dumps(card(SECOND, 7))),
    "no card": release(card="[]"),
    "no JSON": release(card="{"),
    "deep": release(card="[" * 100_000),
    "no model": release(b"\x1c\0\0\0TFL3" + bytes(100)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_fit_is_refused_and_the_model_in_use_stays(ward, why):
    give(ward, REFUSED[why])
    assert ward.site.refused["model"] == 1
    assert in_use(ward)["version"] == 1
    known = REFUSED[why].name == NAME and REFUSED[why].version > 1
    assert (told(ward).refused_version, bool(told(ward).refused)) == ((2, True) if known else (0, False))
    ward.restart()
    assert in_use(ward)["version"] == 1
    assert told(ward).refused_version == (2 if known else 0)  # the server is to hear of it
    give(ward, release(version=3))
    assert (in_use(ward)["version"], told(ward).refused_version) == (3, 0)


@pytest.mark.parametrize(("who", "role"), [("gw-2", "gateway"), ("dock", "dock"), ("other", "server")])
def test_who_is_not_this_ward_s_server_releases_nothing(ward, who, role):
    give(ward, release(), signer=identity(who, role))
    assert in_use(ward)["version"] == 1
    assert not told(ward).refused_version


def test_a_release_that_was_bent_on_its_way_is_none(ward):
    data = bytearray(envelope.sign(ward.server.identity, release()))
    for at in (60, len(data) // 2, -5):
        bent = bytearray(data)
        bent[at] ^= 1
        ward.deliver(Outgoing(to_gateway("gw-1"), bytes(bent)))
        ward.deliver(Outgoing(to_gateway("gw-1"), bytes(data[:at])))
    ward.settle()
    assert in_use(ward)["version"] == 1
    assert not told(ward).refused_version


def test_one_that_is_too_large_is_not_even_read(ward):
    with pytest.raises(ValidationError):
        release(bytes(MAX_BLOB + 1))
    large = release().model_copy(update={"blob": bytes(MAX_BLOB + 1)})
    ward.deliver(Outgoing(to_gateway("gw-1"), envelope.sign(ward.server.identity, large)))
    ward.settle()
    assert ward.site.refused["schema"] == 1
    assert not told(ward).refused_version


def test_without_a_runtime_nothing_is_taken_and_nothing_is_told(tmp_path):
    ward = Rig(tmp_path, patients=1).begin()
    give(ward, release())
    assert ward.site.refused["model"] == 1
    assert ward.site.gateway.bedside_models.status() == ()
