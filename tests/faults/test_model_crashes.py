"""The server loses power while a model is pushed, tried and taken back: one version of each, and all boards get it."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hospital_in_memory import Cut, TrueSite, Ward, hospital_rig, identity

from qepa_gateway.domain.rollout import Terms
from qepa_server.audit import chain
from qepa_server.config import ModelsConfig
from qepa_uplink.releases import ModelOrder, SignedOrder
from qepa_wire.model import encode_model

pytestmark = pytest.mark.timeout(600)
STEPS = ("registry.release.store", "registry.release.advance")


def order(ward, blob, k, name="board", card="{}"):
    fields = {"what": "push", "name": name, "signed_s": ward.now_ms // 1000, "nonce": bytes([k] * 16), "card": card}
    body = ModelOrder(**fields, blob=blob).model_dump_json().encode()
    person = identity("releaser", "release")
    return SignedOrder(body=body, certificate=person.certificate, signature=person.sign(body, ModelOrder.CONTEXT))


def refuse(board, bad):
    """A board that takes any model but the version ``bad``."""

    def take(release):
        version = int.from_bytes(release[6:10], "little")
        if version not in bad and version > board.model:
            board.model = version
            board.hello()

    board.take_model = take


@pytest.mark.parametrize("together", [True, False], ids=["messages together", "one by one"])
def test_a_push_that_boards_do_not_bear_over_power_cuts_at_each_step(tmp_path, monkeypatch, together):
    monkeypatch.setattr(TrueSite, "terms", Terms(confirm_within_ms=5000, soak_ms=0, most_failures=1))
    ward = Ward(tmp_path, max_rounds=1)
    ward.server.together = together
    bad = set()
    for board in ward.boards.values():
        refuse(board, bad)
    ward.begin()
    ward.until(lambda: ward.settled(1))
    cuts = [Cut(step, after=after) for step in STEPS for after in (False, True)]
    for k, cut in enumerate(cuts):
        one_push(ward, bad, k, cut)
    assert all(cut.fired for cut in cuts)
    with ward.server.store.read() as connection:
        assert chain.verify(connection) > 0


def one_push(ward, bad, k, cut):
    """Power fails twice: as the push is stored or first tried, then as it is taken back."""
    registry = ward.server.hospital.registry
    ward.until(lambda: ward.server.hospital.registry.newest.state == "released")
    before, words = registry.current.version, registry.current.words
    bad.add(before + 1)
    new = registry.current._replace(version=0, words=tuple(word + k + 1 for word in words))
    signed = order(ward, encode_model(new), k)
    ward.server.arm(cut)
    ward.ask(lambda: ward.server.hospital.releases.order(signed))
    if k % 2:
        ward.server.arm(Cut("registry.release.store", after=k == 3))
    ward.until(lambda: ward.server.hospital.registry.newest.origin == "rollback" and all_have(ward), within_ms=120_000)
    registry = ward.server.hospital.registry
    assert registry.current.version == before + 2  # one push, one rollback: no more
    assert registry.current.words == words
    states = {each.version: each.state for each in ward.server.hospital.releases.versions.history("board", 5)}
    assert states[before + 1] == "withdrawn"
    assert states[before + 2] != "withdrawn"


def all_have(ward):
    version = ward.server.hospital.registry.current.version
    return all(board.model == version for board in ward.boards.values())


VECTORS = Path(__file__).parents[1] / "vectors"
FIRST, SECOND, OTHER_SHAPE = (
    (VECTORS / f"{name}.tflite").read_bytes() for name in ("ecg-quality-1", "ecg-quality-2", "activity-3")
)
NAME = "ecg-quality"


def card(blob):
    return json.dumps({"name": NAME, "version": 1, "sha256": sha256(blob).hexdigest()})


def at_gateways(ward):
    shelves = [site.gateway.inference.shelf for site in ward.sites.values()]
    return {(shelf.version(NAME), shelf.get(NAME)[1]["sha256"]) for shelf in shelves}


def test_models_of_the_gateways_over_power_cuts_of_both_sides(tmp_path, monkeypatch):
    """One that fits reaches all; one of another shape is refused by the first gateway, and what held comes again."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / f"{NAME}.tflite").write_bytes(FIRST)
    (shipped / f"{NAME}.json").write_text(card(FIRST))
    usual = hospital_rig.configuration

    def quick(*given, **settings):
        return usual(*given, **settings).model_copy(update={"models": ModelsConfig(soak_s=4)})

    monkeypatch.setattr(hospital_rig, "configuration", quick)
    monkeypatch.setattr(TrueSite, "shipped", shipped)
    ward = Ward(tmp_path, max_rounds=1)
    ward.begin()

    def newest():
        return ward.server.hospital.releases.newest(NAME)

    ward.until(lambda: newest() is not None)
    assert newest().origin == "shipped"
    for k, (step, after) in enumerate(
        (step, after) for step in ("registry.release.store", "registry.bedside.advance") for after in (False, True)
    ):
        good, before = (FIRST, SECOND)[(k + 1) % 2], newest().version
        cut = Cut(step, after=after)
        ward.server.arm(cut)
        pushed = order(ward, good, 2 * k, NAME, card(good))
        ward.ask(lambda pushed=pushed: ward.server.hospital.releases.order(pushed))
        ward.until(lambda: newest().state == "released" and newest().origin == "pushed")
        ward.until(lambda before=before, good=good: at_gateways(ward) == {(before + 1, sha256(good).hexdigest())})
        ward.server.arm(cut)
        bad = order(ward, OTHER_SHAPE, 2 * k + 1, NAME, card(OTHER_SHAPE))
        ward.ask(lambda bad=bad: ward.server.hospital.releases.order(bad))
        ward.sites["gw-1"].crash()
        ward.revive()
        ward.until(lambda before=before, good=good: at_gateways(ward) == {(before + 3, sha256(good).hexdigest())})
        assert newest().version == before + 3  # one push that held, one that did not, and what held again
        assert ward.server.hospital.releases.versions.find(NAME, before + 2).state == "withdrawn"
        assert cut.fired
