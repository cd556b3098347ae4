"""Models: a signed order brings one, one board or gateway tries it, what is not borne goes back as a new version."""

import asyncio
import hashlib
import json
from dataclasses import replace

import hospital_rig
import pytest
from hospital_rig import Rig, ward
from sqlalchemy import select

from qepa_server.config import ModelsConfig
from qepa_server.errors import RefusedError
from qepa_server.explain.drift import DriftSignal
from qepa_server.registry import cards
from qepa_server.registry.models import HOLD_MS
from qepa_server.store.schema import audit
from qepa_uplink.bedside_models import CONTRACTS
from qepa_uplink.envelope import open_signed, parse
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import BedsideRelease, BedsideStatus, ModelRelease, ModelStatus, RoundStart, Status
from qepa_uplink.releases import ModelOrder, SignedOrder
from qepa_uplink.session import is_sealed
from qepa_wire.model import decode_model, decode_release, encode_model

BLOB = b"\x1c\x00\x00\x00TFL3" + bytes(56)
SHIPPED_DIGEST = hashlib.sha256(b"shipped").digest()
NAME = "ecg-beats"


@pytest.fixture
def rig(tmp_path):
    """Two gateways, too few patients for a round."""
    rig = Rig(tmp_path, ward(2, 1))
    rig.connect()
    return rig


@pytest.fixture
def full(tmp_path):
    """Patients enough for rounds."""
    rig = Rig(tmp_path, ward(2, 6), gateways_expected=2)
    rig.connect()
    return rig


def order(rig: Rig, who: str = "releaser", **fields: object) -> SignedOrder:
    fields = {"what": "push", "name": "board", "signed_s": rig.now // 1000, "nonce": bytes(16), "card": "{}"} | fields
    body = ModelOrder.model_validate(fields).model_dump_json().encode()
    person = rig.identities[who]
    return SignedOrder(body=body, certificate=person.certificate, signature=person.sign(body, ModelOrder.CONTEXT))


def words(rig: Rig) -> tuple[int, ...]:
    return rig.hospital.registry.current.words


def other(rig: Rig, by: int = 7, **changes: object) -> bytes:
    model = rig.hospital.registry.current
    return encode_model(model._replace(version=0, words=tuple(word + by for word in model.words), **changes))


def tell(rig: Rig, name: str, **fields: object) -> list[object]:
    """A gateway says how far it is; what it is sent then."""
    gateway = rig.gateways[name]
    gateway.seal(Status(now_ms=rig.now, boards=(), link=None, refused={}, spool=0, **fields))
    rig.to_gateways.clear()
    (sent,) = rig.to_server
    rig.to_server.clear()
    rig.hospital.receive(*sent)
    signed = [data for to, data in rig.to_gateways if to == name and not is_sealed(data)]
    rig.to_gateways.clear()
    return [open_signed(parse(data), gateway.server.subject.sign_key) for data in signed]


def stage(rig: Rig, what: str, version: int = 0, failed: tuple[int, ...] = ()) -> dict:
    return {"model": ModelStatus(version=version or rig.hospital.registry.current.version, stage=what, failed=failed)}


def runs(version: int = 1, digest: bytes = SHIPPED_DIGEST, **fields: object) -> dict:
    return {
        "bedside": (
            BedsideStatus.model_validate(
                {"name": NAME, "version": version, "digest": digest, "shipped": version == 1} | fields
            ),
        )
    }


def borne(rig: Rig) -> None:
    """All gateways say that their boards use the newest model."""
    for name in ("gw-1", "gw-2", "gw-1"):
        tell(rig, name, **stage(rig, "ward"))


def events(rig: Rig, *kinds: str) -> list[tuple[str, str, int]]:
    with rig.store.read() as connection:
        rows = connection.execute(select(audit.c.event, audit.c.detail).order_by(audit.c.seq)).all()
    found = [(row.event, json.loads(row.detail)) for row in rows if row.event.startswith("model.")]
    return [(event, each["name"], each["version"]) for event, each in found if not kinds or event in kinds]


def signal(rig: Rig, score: float = 2000.0, version: int | None = None) -> DriftSignal:
    newest = rig.hospital.registry.newest.version if version is None else version
    return DriftSignal(name="board", version=newest, score=score, limit=1000.0, since=5 if score >= 1000 else None)


class TestBoardModel:
    def test_a_fresh_ward_starts_with_the_model_that_ships_and_says_what_was_measured(self, rig):
        newest = rig.hospital.registry.newest
        assert (newest.version, newest.origin, newest.state) == (1, "shipped", "prepared")
        assert any(words(rig))
        assert 0.5 < newest.card["measured"]["accuracy"] < 1
        assert newest.card["measured"]["intervals_95"]["accuracy"]
        assert "accuracy" in cards.markdown(newest.card)

    def test_a_ward_can_be_told_to_start_from_nothing(self, tmp_path, monkeypatch):
        usual = hospital_rig.configuration

        def from_zeros(*given, **settings):
            return usual(*given, **settings).model_copy(update={"models": ModelsConfig(start="initial")})

        monkeypatch.setattr(hospital_rig, "configuration", from_zeros)
        rig = Rig(tmp_path, ward(1, 1))
        assert not any(words(rig))
        assert rig.hospital.registry.newest.card["limits"] == cards.UNTRAINED

    def test_a_pushed_model_is_tried_and_released_and_all_of_it_is_in_the_audit_log(self, rig):
        borne(rig)
        before = words(rig)
        made = rig.hospital.releases.order(order(rig, blob=other(rig), card='{"data": "elsewhere"}', reason="better"))
        assert (made.version, made.state, made.by, made.parent) == (2, "prepared", "releaser", 1)
        assert words(rig) == tuple(word + 7 for word in before)
        (sent,) = {message.version for message in sent_to(rig, "gw-1", ModelRelease)}
        assert sent == 2
        tell(rig, "gw-1", **stage(rig, "canary"))
        assert rig.hospital.registry.newest.state == "canary"
        tell(rig, "gw-1", **stage(rig, "ward"))
        assert rig.hospital.registry.newest.state == "canary"  # not at gw-2 yet
        borne(rig)
        assert rig.hospital.registry.newest.state == "released"
        assert events(rig)[-3:] == [(f"model.{what}", "board", 2) for what in ("signed", "canary", "released")]
        assert rig.hospital.registry.newest.card["measured"] == {"data": "elsewhere"}

    def test_what_boards_do_not_bear_goes_back_as_a_new_version_with_old_words(self, rig):
        borne(rig)
        before = words(rig)
        rig.hospital.releases.order(order(rig, blob=other(rig)))
        sent = tell(rig, "gw-2", **stage(rig, "withdrawn", failed=(201, 202, 203)))
        newest = rig.hospital.registry.newest
        assert (newest.version, newest.origin, newest.parent) == (3, "rollback", 2)
        assert words(rig) == before
        assert [decode_model(decode_release(m.release)[0]).version for m in sent if isinstance(m, ModelRelease)] == [3]
        assert rig.hospital.releases.versions.find("board", 2).state == "withdrawn"
        assert rig.state()["model"]["reason"] == "version 2: 3 boards at gw-2 do not bear it"
        card = newest.card
        assert card["again"] == {"version": 1, "origin": "shipped"}
        assert 0.5 < card["measured"]["accuracy"] < 1  # still true of these words
        tell(rig, "gw-2", **stage(rig, "withdrawn", version=2, failed=(201, 202, 203)))  # said again: nothing new
        assert rig.hospital.registry.current.version == 3

    def test_it_goes_back_by_itself_once_then_a_person_decides(self, rig):
        borne(rig)
        rig.hospital.releases.order(order(rig, blob=other(rig)))
        tell(rig, "gw-1", **stage(rig, "withdrawn"))
        sent = tell(rig, "gw-1", **stage(rig, "withdrawn"))
        newest = rig.hospital.registry.newest
        assert (newest.version, newest.origin) == (3, "rollback")  # it stays: others may bear it
        assert newest.reason.startswith("not borne: 0 boards at gw-1 do not bear it; version 2: ")
        assert not any(isinstance(message, ModelRelease) for message in sent)
        assert events(rig, "model.unborne") == [("model.unborne", "board", 3)]
        for _ in range(3):
            tell(rig, "gw-1", **stage(rig, "withdrawn"))
        assert len(events(rig, "model.unborne")) == 1
        pushed = rig.hospital.releases.order(order(rig, blob=other(rig, 9), nonce=bytes([1] * 16)))
        assert pushed.version == 4

    def test_contents_that_were_withdrawn_are_not_gone_back_to(self, rig):
        borne(rig)
        release = rig.hospital.releases.order
        release(order(rig, blob=other(rig), nonce=bytes([1] * 16)))
        borne(rig)
        release(order(rig, what="rollback", nonce=bytes([2] * 16)))  # 3 has the words of 1, 2 is withdrawn
        borne(rig)
        release(order(rig, blob=other(rig, 9), nonce=bytes([3] * 16)))
        tell(rig, "gw-1", **stage(rig, "withdrawn"))
        newest = rig.hospital.registry.newest
        assert (newest.version, newest.card["again"]["version"]) == (5, 3)

    def test_a_person_rolls_back_to_a_version_and_its_words_come_again(self, rig):
        borne(rig)
        first = words(rig)
        for nonce in (1, 2, 3):
            rig.hospital.releases.order(order(rig, blob=other(rig, nonce), nonce=bytes([nonce] * 16)))
            borne(rig)
        made = rig.hospital.releases.order(order(rig, what="rollback", to=1, reason="told by the ward"))
        assert (made.version, words(rig)) == (5, first)
        assert made.reason == "version 4: rolled back by releaser: told by the ward"
        states = [each.state for each in rig.hospital.releases.versions.history("board", 9)]
        assert states == ["prepared", "withdrawn", "withdrawn", "withdrawn", "released"]

    def test_the_same_order_again_makes_no_other_version_also_after_a_crash(self, rig):
        signed = order(rig, blob=other(rig))
        first = rig.hospital.releases.order(signed)
        assert rig.hospital.releases.order(signed).version == first.version
        rig.crash()
        rig.connect()
        assert rig.hospital.releases.order(signed).version == first.version == rig.hospital.registry.current.version

    def test_only_a_person_of_the_release_desk_may_order(self, rig):
        for who in ("dock", "desk", "gw-1", "server"):
            with pytest.raises(UplinkError, match="not a release"):
                rig.hospital.releases.order(order(rig, who, blob=other(rig)))

    def test_what_was_altered_or_is_old_or_has_another_shape_is_refused(self, rig):
        releases = rig.hospital.releases
        good = order(rig, blob=other(rig))
        with pytest.raises(UplinkError, match="signature"):
            releases.order(good.model_copy(update={"body": good.body.replace(b'"push"', b'"pusk"')}))
        with pytest.raises(RefusedError, match="time"):
            releases.order(order(rig, blob=other(rig), signed_s=rig.now // 1000 - 3600))
        with pytest.raises(RefusedError, match="model"):
            releases.order(order(rig, blob=other(rig)[:-4]))
        with pytest.raises(RefusedError, match="model"):
            releases.order(order(rig, blob=BLOB))
        hidden = rig.hospital.registry.current._replace(version=0, kind=2, hidden=10, words=(1,) * 224)
        with pytest.raises(RefusedError, match="shape: 17 features, 10 hidden units"):
            releases.order(order(rig, blob=encode_model(hidden)))
        for card in ("", "[]", '{"a": NaN}', "{" * 9000, json.dumps({"a": [[[[[[[[[1]]]]]]]]]})):
            with pytest.raises(UplinkError, match="card"):
                releases.order(order(rig, blob=other(rig), card=card))
        for to in (1, 2, 77):
            with pytest.raises(RefusedError, match="version"):
                releases.order(order(rig, what="rollback", to=to))
        with pytest.raises(RefusedError, match="no line"):
            releases.order(order(rig, what="rollback", name="weather"))
        assert rig.hospital.registry.current.version == 1

    def test_rounds_wait_for_a_model_that_was_pushed_but_not_for_ever(self, full):
        borne(full)
        full.hospital.releases.order(order(full, blob=other(full)))
        full.pass_time(5)  # these scripted gateways never say that they have it
        assert full.hospital.ledger.last() is None
        full.now += HOLD_MS
        full.pass_time(5)
        assert full.hospital.ledger.last() is not None

    def test_a_round_that_learned_from_a_model_taken_back_does_not_move_the_new_one(self, full):
        held: list[RoundStart] = []
        late = full.gateways["gw-2"]
        start, late.on_start = late.on_start, held.append
        full.pass_time(1)
        number = full.hospital.rounds.running.number
        full.hospital.releases.order(order(full, blob=other(full)))
        taken = words(full)
        start(held[0])
        full.pump()
        assert full.hospital.ledger.find(number).state == "done"
        assert sums(full, number) == ["summed", "summed"]
        assert words(full) == taken


def sums(rig: Rig, number: int) -> list[str]:
    return [record.state for record in rig.hospital.ledger.sums(number)]


def sent_to(rig: Rig, name: str, kind: type) -> list:
    signed = [data for to, data in rig.to_gateways if to == name and not is_sealed(data)]
    server = rig.identities["server"].subject.sign_key
    return [message for data in signed if isinstance(message := open_signed(parse(data), server), kind)]


class TestFederatedCard:
    def test_it_tells_sums_and_what_cannot_be_known(self, full):
        full.pass_time(4)
        versions = full.hospital.releases.versions
        second, third = (versions.find("board", version) for version in (2, 3))
        assert second.origin == third.origin == "federated"
        training = second.card["training"]
        assert (training["patients"], training["boards"], training["cells_opened"]) == (12, 12, 1)
        assert third.card["training"]["patients_over_all_rounds"] == 24
        assert (third.rounds_trained, third.began, training["began_as"]) == (2, 1, 1)
        assert training["rule"]["over_cells"] == "trimmed_mean"
        assert training["privacy"]["epsilon_most"] is None  # sums without noise
        assert "measured" not in second.card
        assert second.card["limits"] == cards.UNSEEN
        page = cards.markdown(second.card)
        assert "patients over all rounds" in page
        assert "| epsilon most | unknown |" in page


class TestDrift:
    def test_windows_in_a_row_beyond_the_limit_take_a_version_back(self, rig):
        borne(rig)
        before = words(rig)
        rig.hospital.releases.order(order(rig, blob=other(rig)))
        borne(rig)
        drift = rig.hospital.releases.on_drift
        for score in (2000, 2000, 10, 2000, 2000):  # two in a row at most
            drift(signal(rig, score))
        assert rig.hospital.registry.current.version == 2
        drift(signal(rig, version=1))  # about a version that is over
        rig.crash()
        rig.connect()
        rig.hospital.releases.on_drift(signal(rig))  # the third, over a restart of the server
        newest = rig.hospital.registry.newest
        assert (newest.version, newest.origin, words(rig)) == (3, "rollback", before)
        assert newest.reason == "version 2: drift 2e+03 beyond 1e+03 in 3 windows since 5"

    def test_what_was_learned_while_there_was_drift_goes_with_it(self, full):
        full.pass_time(2)
        before = full.hospital.registry.current
        assert before.version > 1
        for _ in range(2):
            full.hospital.releases.on_drift(signal(full))
        while full.hospital.registry.current.version == before.version:
            full.pass_time(0.5)
        assert full.hospital.registry.newest.drift_windows == 2
        full.hospital.releases.on_drift(signal(full))
        newest = full.hospital.registry.newest
        assert (newest.origin, newest.drift_windows) == ("rollback", 0)
        assert newest.card["again"]["version"] == before.version - 1  # the last one without drift

    def test_drift_of_what_has_no_forerunner_is_told_and_changes_nothing(self, rig):
        borne(rig)
        for _ in range(9):
            rig.hospital.releases.on_drift(signal(rig))
        newest = rig.hospital.registry.newest
        assert (newest.version, newest.state) == (1, "released")
        assert events(rig, "model.unborne") == [("model.unborne", "board", 1)]


class TestBedsideLines:
    def push(self, rig: Rig, blob: bytes = BLOB, nonce: int = 0, **card: object):
        about = {"name": NAME, "version": 1, "sha256": hashlib.sha256(blob).hexdigest(), "accuracy": 0.9} | card
        return rig.hospital.releases.order(
            order(rig, name=NAME, blob=blob, card=json.dumps(about), nonce=bytes([nonce] * 16))
        )

    def test_what_gateways_ship_is_known_and_one_gateway_tries_what_is_pushed(self, rig):
        for name in ("gw-1", "gw-2"):
            assert not tell(rig, name, **runs())
        assert rig.hospital.releases.newest(NAME).origin == "shipped"
        made = self.push(rig)
        assert (made.version, made.state) == (2, "prepared")
        (sent,) = tell(rig, "gw-2", **runs())
        assert isinstance(sent, BedsideRelease)
        assert (sent.name, sent.version, sent.blob) == (NAME, 2, BLOB)
        card = json.loads(sent.card)
        assert (card["version"], card["sha256"]) == (2, made.digest.hex())
        assert card["measured"] == {"accuracy": 0.9}
        assert not tell(rig, "gw-1", **runs())  # it is another's to try
        newer = runs(2, made.digest)
        tell(rig, "gw-2", **newer)
        rig.now += 600_000
        tell(rig, "gw-2", **newer)
        assert rig.hospital.releases.newest(NAME).state == "released"
        assert [message.version for message in tell(rig, "gw-1", **runs())] == [2]
        line = next(each for each in models(rig) if each["name"] == NAME)
        assert [(each["gateway"], each["version"]) for each in line["gateways"]] == [("gw-1", 1), ("gw-2", 2)]

    @pytest.mark.parametrize(
        "trouble", [{"refused_version": 2, "refused": "another shape"}, {"version": 2, "errors": 4}]
    )
    def test_what_the_first_gateway_refuses_or_fails_with_goes_back(self, rig, trouble):
        tell(rig, "gw-1", **runs())
        made = self.push(rig)
        tell(rig, "gw-1", **runs())
        sent = tell(rig, "gw-1", **runs(**({"digest": made.digest} | trouble)))
        newest = rig.hospital.releases.newest(NAME)
        assert (newest.version, newest.origin, newest.state) == (3, "rollback", "released")
        assert [(message.version, message.blob, message.digest) for message in sent] == [(3, b"", SHIPPED_DIGEST)]
        assert "gw-1" in newest.reason

    def test_a_gateway_that_went_away_is_no_failure_another_one_tries(self, rig):
        for name in ("gw-1", "gw-2"):
            tell(rig, name, **runs())
        self.push(rig)
        assert tell(rig, "gw-1", **runs())
        rig.now += 599_000
        assert not tell(rig, "gw-2", **runs())
        rig.now += 2000
        assert [message.version for message in tell(rig, "gw-2", **runs())] == [2]
        assert rig.hospital.releases.newest(NAME).canary == "gw-2"

    def test_numbers_go_on_above_what_any_gateway_ships_and_over_a_restart(self, rig):
        tell(rig, "gw-1", **runs())
        tell(rig, "gw-2", **runs(9, shipped=True))
        assert self.push(rig).version == 10
        rig.crash()
        rig.connect()
        assert rig.hospital.releases.newest(NAME).version == 10
        assert rig.hospital.releases.versions.find(NAME, 1).origin == "shipped"

    def test_what_is_no_model_or_another_ones_is_refused(self, rig):
        with pytest.raises(RefusedError, match="no TFLite"):
            self.push(rig, b"nothing of the kind")
        with pytest.raises(RefusedError, match="digest"):
            self.push(rig, sha256="00" * 32)
        with pytest.raises(RefusedError, match="digest"):
            self.push(rig, name="ecg-quality")
        with pytest.raises(RefusedError, match="no line"):
            rig.hospital.releases.order(order(rig, name="weather", blob=BLOB))
        assert rig.hospital.releases.newest(NAME) is None


def models(rig: Rig) -> list[dict]:
    from qepa_server.api.models import line

    return [line(rig.hospital, name) for name in ("board", *CONTRACTS) if rig.hospital.releases.newest(name)]


def test_the_database_of_an_earlier_release_keeps_its_models(tmp_path):
    from sqlalchemy import create_engine, text

    from qepa_server.registry.versions import VersionStore
    from qepa_server.store.database import Store, migrate
    from qepa_wire.model import Model

    blobs = [encode_model(Model(version, 1, 17, 0, 4, 12, (version,) * 72)) for version in (1, 2, 3)]
    engine = create_engine(f"sqlite:///{tmp_path / 'server.db'}")
    migrate(engine, "0003")
    with engine.begin() as connection:
        for version, blob in enumerate(blobs, 1):
            row = {"version": version, "round": version - 1, "blob": blob, "envelope": b"e", "now": 5 * version}
            connection.execute(text("INSERT INTO models VALUES (:version, :round, :blob, :envelope, :now)"), row)
    engine.dispose()
    store = Store.open(tmp_path)
    versions = VersionStore(store)
    found = [versions.find("board", version) for version in (1, 2, 3)]
    assert [each.origin for each in found] == ["initial", "federated", "federated"]
    assert [each.state for each in found] == ["released", "released", "prepared"]
    assert [each.rounds_trained for each in found] == [0, 1, 2]
    assert [each.blob for each in found] == blobs
    assert found[0].digest == hashlib.sha256(blobs[0][:4] + bytes(4) + blobs[0][8:]).digest()
    assert versions.before(replace(found[2], state="canary")).version == 2
    store.close()


def test_whatever_is_posted_is_refused_in_words(rig):
    import httpx

    from qepa_server.api.app import create_app

    async def ask():
        app = create_app(rig.hospital, host="127.0.0.1", stopping=asyncio.Event())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
            bad = order(rig, blob=other(rig)).model_copy(update={"signature": bytes(3309)})
            answers = [
                await http.post("/v1/models", content=b"{}"),
                await http.post("/v1/models", content=bad.model_dump_json()),
                await http.post("/v1/models", content=bytes(2 << 20)),
                await http.get("/api/models/board/99"),
                await http.get("/api/models/weather/1"),
                await http.get("/api/models/board/x"),
                await http.get("/api/models/board/1/card.md"),
                await http.get("/api/models/board/0/blob"),
            ]
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [400, 403, 413, 404, 404, 422, 200, 200]
