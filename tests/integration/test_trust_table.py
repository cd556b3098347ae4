"""The trust table (README.md): what each party holds is taken from it, and searched for what it may not know.

LightHE is linear, so what can be read from sealed vectors and masks is a linear combination mod 2^32 of what is held.
`Scene.knows` gathers all of it: every sealed vector that was on the air, every opened sum, and the mask of every string
of 32 bytes in a party's memory and decrypted database, taken as a key of every kind. A value is readable if it lies in
the span. Vectors are long here (1000 words), so that far fewer are held than it takes to span everything.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

from hospital_in_memory import STATISTICS, UPDATE, Ward, identity

import qepa_gateway.spool.vault
import qepa_server.planning
import qepa_server.store.vault
import qepa_wire.model
from qepa_server.api.state import StateView
from qepa_server.config import LearningConfig
from qepa_uplink import envelope
from qepa_uplink.enrolment import CONSENT_CONTEXT
from qepa_uplink.lighthe import SealedVector, mask
from qepa_uplink.messages import CareGrant, Consent, Partial, SignedConsent
from qepa_uplink.session import is_sealed
from qepa_wire import frame, keys, payloads
from qepa_wire.discrete_gaussian import DiscreteGaussian
from qepa_wire.errors import WireError

WORDS = 1000
LEARNING = LearningConfig(features=249, noise_variance=400, clip_norm=4096)
KINDS = ("", "LINK_MASK", "END_MASK", "PAIR_MASK")


class NoisyBoard:
    """Mixed into the ward's boards: adds its share of noise, and remembers what it measured."""

    def prepare(self, noise_q8):
        self.noise = DiscreteGaussian(noise_q8, lambda bits: int.from_bytes(os.urandom(2), "little") >> (16 - bits))
        self.measured = {}
        plain = type(self)._values.__get__(self)

        def values(round_, stream, n_words):
            self.measured[round_, stream] = true = plain(round_, stream, n_words)
            return [word + self.noise.sample() for word in true] if stream == UPDATE else true

        self.values = values


class Tapped(Ward):
    """A ward whose broker keeps all that passes."""

    def __init__(self, directory, **settings):
        self.air = []
        super().__init__(directory, **settings)

    def deliver(self, message):
        self.air.append(message)
        super().deliver(message)


def holdings(root):
    """All byte strings in what ``root`` refers to: attributes and containers, not code, classes or modules.

    Without the hash trees of the model signing key, hundreds of strings that are no keys of anything else.
    """
    found, seen, waiting = set(), set(), [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, int | float | str | type | type(os)) or each is None:
            continue
        seen.add(id(each))
        if type(each).__module__.startswith("pyhsslms"):
            continue
        if isinstance(each, bytes | bytearray | memoryview):
            found.add(bytes(each))
        elif isinstance(each, dict):
            waiting += [*each, *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each
        elif callable(each) and not hasattr(each, "__dict__"):
            waiting.append(getattr(each, "__self__", None))  # a bound method; a function's globals are everybody's
        elif not callable(each):
            waiting += getattr(each, "__dict__", {}).values()
            for base in type(each).__mro__:
                names = base.__dict__.get("__slots__", ())
                names = (names,) if isinstance(names, str) else names
                waiting += [getattr(each, name, None) for name in names if name not in ("__weakref__", "__dict__")]
    return found


class Span:
    """Rows over Z mod 2^32, each with a column where it alone is 1: what their sums can and cannot be."""

    def __init__(self, rows=()):
        self._basis = []
        for row in rows:
            self.add(row)

    def _rest(self, row):
        row = row.astype(np.uint32).copy()
        for column, held in self._basis:
            if row[column]:
                row -= row[column] * held
        return row

    def add(self, row):
        rest = self._rest(row)
        odd = np.flatnonzero(rest & 1)
        assert len(odd) or not rest.any(), "an even row needs more than this elimination"
        if len(odd):
            inverse = pow(int(rest[odd[0]]), -1, 1 << 32)
            self._basis.append((odd[0], rest * np.uint32(inverse)))

    def __contains__(self, values):
        return not self._rest(np.array(values, np.int64).astype(np.uint32)).any()

    def __len__(self):
        return len(self._basis)


class Scene:
    """One round, and the knowledge of each party about its update stream."""

    def __init__(self, ward):
        self.ward, self.round = ward, ward.last_round()
        (self.record,) = (each for each in ward.opened(self.round) if each.stream == UPDATE)
        self.boards = ward.boards
        public = [np.array(self.record.total, np.int64).astype(np.uint32)]  # sums are shown on screens
        secrets = set()
        for message in ward.air:
            public += self._vectors(message)
            if "/board/" not in message.topic and not is_sealed(message.payload):
                secrets |= holdings(envelope.peek(envelope.parse(message.payload)))
        self.public = public
        self.air = self._masks(secrets)

    def _vectors(self, message):
        if message.topic.endswith("/up"):
            parsed = frame.parse(message.payload, frame.UP_TYPES)
            if parsed.type != frame.VECTOR:
                return []
            said = payloads.decode_vector(parsed.payload)
            return [self._words(said.sealed)] if (said.round, said.stream) == (self.round, UPDATE) else []
        if "/server/" in message.topic and not is_sealed(message.payload):
            said = envelope.peek(envelope.parse(message.payload))
            if isinstance(said, Partial) and (said.round, said.stream) == (self.round, UPDATE):
                return [self._words(said.sealed)]
        return []

    @staticmethod
    def _words(sealed):
        return SealedVector.from_bytes(sealed).words

    def _masks(self, secrets):
        rows = []
        for secret in {each for each in secrets if len(each) == keys.KEY_BYTES}:
            for kind in KINDS:
                key = keys.derive(secret, getattr(keys, kind)) if kind else secret
                for cell in {"": (0, self.record.cell), "PAIR_MASK": (self.record.cell,)}.get(kind, (0,)):
                    rows.append(mask(key, stream=UPDATE, round_=self.round, n_words=WORDS, cell=cell).words)
        return rows

    def knows(self, *parties):
        """All that ``parties`` together can compute about vectors; with none: what is on the air."""
        found = set()
        for party in parties:
            found |= holdings(party)
        rows = self.public + self.air + self._masks(found)
        assert len(rows) < WORDS - 8, "so many would span everything"
        return Span(rows)

    def of_board(self, board):
        return self._masks({board.link, board.end_key, board.cohort_key})

    def sent(self, board):
        return self.boards[board].sealed[self.round, UPDATE]

    def sum_of(self, boards):
        return [sum(column) for column in zip(*(self.sent(board) for board in boards), strict=True)]

    def at(self, gateway):
        return [number for number, board in self.boards.items() if board.gateway == gateway]


def wide_models(patch):
    for module in (qepa_server.planning, qepa_wire.model):
        patch.setattr(module, "MAX_WORDS", WORDS)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        wide_models(patch)
        for vault in (qepa_gateway.spool.vault.Vault, qepa_server.store.vault.Vault):
            note_sealed(patch, vault)
        ward = Tapped(tmp_path_factory.mktemp("ward"), gateways=3, learning=LEARNING)
        for board in ward.boards.values():
            NoisyBoard.prepare(board, LEARNING.noise_q8)
        ward.begin()
        ward.until(lambda: ward.settled(2))
        assert ward.check_sums(2) == 2
        yield Scene(ward)


GATEWAYS = ("gw-1", "gw-2", "gw-3")


def gateways(scene, *names):
    """Memory and database of gateways."""
    sites = [scene.ward.sites[name] for name in names]
    return [site.gateway for site in sites] + [on_disk(site.spool.rows) for site in sites]


def server(scene):
    """Memory and database of the server."""
    with scene.ward.server.store.read() as connection:
        return [scene.ward.server.hospital, on_disk(lambda sql: connection.exec_driver_sql(sql).fetchall())]


def on_disk(query):
    """All that is in a database, decrypted, in strings as long as keys are."""
    found = set()
    for (table,) in query("SELECT name FROM sqlite_master WHERE type='table'"):
        for row in query(f"SELECT * FROM {table}"):  # noqa: S608 (names of tables)
            found |= {value for value in row if isinstance(value, bytes) and len(value) < LONGEST}
    plain = {SEALED[value] for value in found if value in SEALED}
    assert plain, "it keeps secrets"
    return [value[at : at + 32] for value in (found | plain) - SEALED.keys() for at in range(0, len(value), 32)]


LONGEST = 400
"""Bytes of anything in a database that could hold keys; longer are signed messages, models and vectors."""
SEALED = {}
"""What each sealed string in a database holds."""


def note_sealed(patch, vault):
    whole = vault.seal

    def seal(self, secret, place):
        sealed = whole(self, secret, place)
        SEALED[sealed] = secret
        return sealed

    patch.setattr(vault, "seal", seal)


def readable(scene, knowledge):
    """(boards whose vector it can read, gateways whose sum, whether the cell's sum)"""
    boards = {number for number in scene.boards if scene.sent(number) in knowledge}
    sums = {name for name in GATEWAYS if scene.sum_of(scene.at(name)) in knowledge}
    return boards, sums, scene.sum_of(scene.boards) in knowledge


def test_the_search_finds_what_is_there(scene):
    """A board's own keys open its vector; one mask less does not."""
    board = scene.boards[1]
    own = Span(scene.public + scene.of_board(board))
    assert readable(scene, own) == ({1}, set(), True)
    without = Span(scene.public + scene._masks({board.end_key, board.cohort_key}))
    assert readable(scene, without)[0] == set()


def test_who_listens_to_radio_network_and_broker_reads_nothing(scene):
    """The cell's sum is there because the server shows it."""
    assert readable(scene, scene.knows()) == (set(), set(), True)


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_reads_no_value_and_no_sum(scene, name):
    assert readable(scene, scene.knows(*gateways(scene, name))) == (set(), set(), True)


def test_all_gateways_together_read_nothing(scene):
    assert readable(scene, scene.knows(*gateways(scene, *GATEWAYS))) == (set(), set(), True)


def test_the_server_reads_the_cells_sum_and_no_part_of_it(scene):
    knowledge = scene.knows(*server(scene))
    assert readable(scene, knowledge) == (set(), set(), True)
    scene.public, shown = scene.public[1:], scene.public[0]
    try:
        assert readable(scene, scene.knows())[2] is False
        assert readable(scene, scene.knows(*server(scene))) == (set(), set(), True)
    finally:
        scene.public.insert(0, shown)


def test_the_cells_sum_has_the_noise_of_its_boards_in_it(scene):
    measured = [scene.boards[number].measured[scene.round, UPDATE] for number in scene.boards]
    true = np.array(measured).sum(axis=0)
    noise = np.array(scene.record.total) - true
    expected = (LEARNING.noise_variance * len(measured)) ** 0.5
    assert 0.7 * expected < noise.std() < 1.3 * expected
    assert true.tolist() not in scene.knows(*server(scene))


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_and_the_server_together_read_that_gateways_boards(scene, name):
    """Stated, not hidden. Of the other gateways of a cell of three they read neither values nor sums."""
    together = scene.knows(*gateways(scene, name), *server(scene))
    assert readable(scene, together) == (set(scene.at(name)), {name}, True)


# --- care ---


HEART_RATE = 117


def opens(holder, frames):
    """Whether any string in what ``holder`` has is, or leads to, the key of a care record."""
    for key in holdings(holder):
        if len(key) != keys.KEY_BYTES:
            continue
        for seq, board, payload in frames:
            for candidate in (key, keys.care_key(key, payloads.care_consent(payload))):
                try:
                    payloads.decode_care(candidate, board, seq, payload)
                except WireError:
                    continue
                return True
    return False


@pytest.fixture
def monitored(tmp_path):
    """(ward, board 1 with a consent and its care records on the air, the consent)"""
    ward = Tapped(tmp_path, gateways=2, max_rounds=1)
    ward.begin()
    board = ward.boards[1]
    consent = ward.consent(board, for_s=60)
    ward.until(lambda: board.care_key is not None, every_ms=200)
    ward.up(board, board.care(HEART_RATE))
    ward.settle(3)
    return ward, board, consent


def care_frames(ward):
    found = []
    for message in ward.air:
        if message.topic.endswith("/up"):
            parsed = frame.parse(message.payload, frame.UP_TYPES)
            if parsed.type == frame.CARE:
                found.append((parsed.seq, parsed.board, parsed.payload))
    return found


def shown(ward):
    """Heart rates on the server's screens and the gateway's page."""
    vitals = StateView(ward.server.hospital).state()["boards"][0]["vitals"]
    return str(HEART_RATE) in json.dumps(vitals), ward.site.gateway.care.vitals(1) is not None


def test_vitals_are_read_at_the_boards_gateway_and_the_server_while_a_consent_is_in_force(monitored):
    ward, _, _ = monitored
    frames = care_frames(ward)
    assert shown(ward) == (True, True)
    assert opens(ward.site.gateway, frames)
    assert not opens(ward.sites["gw-2"].gateway, frames), "another gateway"
    assert not opens([message.payload for message in ward.air], frames), "radio, network, broker"


@pytest.mark.parametrize("end", ["withdrawn", "run out"])
def test_when_it_ends_no_key_is_left_at_the_gateway_and_nothing_is_shown(monitored, end):
    ward, board, consent = monitored
    if end == "withdrawn":
        ward.withdraw(consent)
        ward.settle(4)
        assert board.care_key is None, "the board has been told to stop"
    else:
        ward.advance(61_000, every_ms=2000)
    frames = care_frames(ward)
    assert not opens(ward.site.gateway, frames)
    ward.site.crash()
    ward.site.start()
    assert not opens(ward.site.gateway, frames), "nor in its database"
    ward.settle(4)
    assert shown(ward) == (False, False)
    board.care_key = keys.care_key(board.end_key, board.consent_id)
    ward.up(board, board.care(HEART_RATE))  # a board that has not heard of it
    ward.settle(3)
    assert shown(ward) == (False, False)


def test_the_server_alone_cannot_start_to_watch(monitored):
    """It holds end keys and so could make care keys; but no gateway hands one on without the desk's signature."""
    ward, _, _ = monitored
    board, server = ward.boards[2], identity("server", "server")
    body = (
        Consent(consent_id=bytes(16), patient=board.patient, boards=(2,), not_before_s=0, not_after_s=2**33)
        .model_dump_json()
        .encode()
    )
    forged = SignedConsent(body=body, certificate=server.certificate, signature=server.sign(body, CONSENT_CONTEXT))
    key = keys.care_key(board.end_key, bytes(16))
    ward.server.hospital.hub.seal("gw-1", CareGrant(consent=forged, board=2, care_key=key))
    ward.settle(4)
    assert board.care_key is None
    assert ward.site.refused["certificate"] == 1


# --- what may be seen: sizes and times ---


def test_sizes_on_the_air_tell_nothing_of_values(scene):
    """All frames of a kind are as long, whatever is in them; what is sealed for the server is not readable at all."""
    sizes = {}
    for message in scene.ward.air:
        if message.topic.endswith("/up"):
            parsed = frame.parse(message.payload, frame.UP_TYPES)
            kind = (parsed.type, payloads.decode_vector(parsed.payload)[1] if parsed.type == frame.VECTOR else 0)
            sizes.setdefault(kind, set()).add(len(message.payload))
    assert sizes.keys() == {(frame.HELLO, 0), (frame.VECTOR, STATISTICS), (frame.VECTOR, UPDATE)}
    assert all(len(found) == 1 for found in sizes.values())


def test_an_alert_is_as_long_as_any_other_and_read_by_the_boards_gateway_and_the_server_alone(tmp_path):
    ward = Tapped(tmp_path, gateways=2, max_rounds=1)
    ward.begin()
    for kind, board in enumerate((ward.boards[1], ward.boards[2]), start=1):
        board.alert(kind=kind)
    ward.settle(6)
    frames = [message.payload for message in ward.air if message.topic.endswith("/up")]
    alerts = [each for each in frames if frame.parse(each, frame.UP_TYPES).type == frame.ALERT]
    assert len({len(each) for each in alerts}) == 1
    assert {alarm.board for alarm in ward.server.hospital.alarms.newest()} == {1, 2}

    def reads(holder):
        parsed = frame.parse(alerts[0], frame.UP_TYPES)
        for key in holdings(holder):
            if len(key) == keys.KEY_BYTES:
                try:
                    read = payloads.decode_alert(key, parsed.seq, parsed.payload)
                except WireError:
                    continue
                if (read.t_ms, read.kind) == (1000, 1):
                    return True
        return False

    assert reads(ward.site.gateway)
    assert not reads(ward.sites["gw-2"].gateway)
    assert not reads([message.payload for message in ward.air])


def test_presence_is_known_to_gateway_and_server(scene):
    assert {board.number for board in scene.ward.site.gateway.boards.served()} == set(scene.at("gw-1"))
    shown = StateView(scene.ward.server.hospital).state()["boards"]
    assert [each["online"] for each in shown] == [True] * len(scene.boards)
