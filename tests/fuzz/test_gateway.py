"""Whatever bytes arrive at a gateway, and whatever a certified party says: it is counted, and the gateway goes on."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))
from bedside_rig import Rig, identity

from qepa_uplink import envelope
from qepa_uplink.messages import BedsideRelease, CellVoid, Count, Directory, PairOffer, PairWanted
from qepa_uplink.topics import to_gateway
from qepa_wire.topics import board_up

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    rig = Rig(tmp_path_factory.mktemp("ward"), patients=3, gateways=1)
    rig.seen = []
    deliver = rig.deliver

    def note(message):
        rig.seen.append(message)
        deliver(message)

    rig.deliver = note
    rig.begin()
    rig.boards[1].alert()
    rig.run_round(1)
    rig.server.send_sealed("gw-1", rig.server.grant(rig.boards[2]))
    rig.settle(6)
    rig.boards[3].load_block()
    rig.up(rig.boards[3], rig.boards[3].pads())
    rig.settle(6)
    return rig


def takes(ward, topic, data):
    """The gateway takes one message and says how it is."""
    ward.site.gateway.receive(topic, data)
    ward.site.gateway.step()
    json.loads(ward.site.gateway.status().model_dump_json())
    ward.site.gateway.drain()
    ward.site.gateway.take_key_requests()


@SLOW
@given(data=st.data())
def test_no_bytes_stop_it(ward, data):
    to_it = [each for each in ward.seen if each.topic.endswith("/up") or each.topic == to_gateway("gw-1")]
    message = data.draw(st.sampled_from(to_it))
    bent = bytearray(message.payload)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(bent)))
        new = data.draw(st.binary(max_size=4))
        bent[at : at + len(new)] = new
    takes(ward, message.topic, bytes(bent) + data.draw(st.binary(max_size=20)))


@SLOW
@given(topic=st.sampled_from([to_gateway("gw-1"), board_up("gw-1", 1), "", "/", "x/up"]), data=st.binary(max_size=400))
def test_no_random_bytes_stop_it(ward, topic, data):
    takes(ward, topic, data)


class Raw:
    """A message whose JSON is chosen freely, for who holds a certified key and means harm."""

    def __init__(self, text):
        self._text = text

    def model_dump_json(self):
        return self._text


def templates(rig):
    nonce = bytes(32)
    said = [
        rig.server.round_open(9),
        rig.server.round_start(1),
        rig.server.release(7),
        BedsideRelease(name="ecg-beats", version=7, digest=nonce, blob=bytes(99), card="{}"),
        Directory(certificates=(identity("gw-2", "gateway").certificate,)),
        CellVoid(id="v", round=1, cell=1, stream=1, gateway="gw-1", reason="x"),
        Count(round=1, cell=1, stream=1, gateway="gw-2", patients=3, boards=3, contributors_digest=nonce),
        PairOffer(sender="gw-2", recipient="gw-1", sealed_key=nonce),
        PairWanted(sender="gw-2", recipient="gw-1"),
    ]
    return [json.loads(message.model_dump_json()) for message in said]


edges = st.sampled_from([0, -1, 1, 2**31, 2**32, 2**53, 2**63, 10**30, 1e308, None, "", "gw-2", [], {}, [[]], "AA=="])


@SLOW
@given(data=st.data(), field=st.integers(0, 20), value=edges, server=st.booleans())
def test_no_certified_party_stops_it(ward, data, field, value, server):
    """Well signed, but with any value anywhere."""
    message = dict(data.draw(st.sampled_from(templates(ward))))
    message[list(message)[1 + field % (len(message) - 1)]] = value
    who = identity("server", "server") if server else identity("gw-2", "gateway")
    takes(ward, to_gateway("gw-1"), envelope.sign(who, Raw(json.dumps(message))))


def test_after_all_that_an_alert_still_arrives(ward):
    before = len(ward.server.alerts)
    ward.boards[1].alert(kind=2)
    ward.advance(20_000)
    assert len(ward.server.alerts) == before + 1
    assert not ward.boards[1].outbox
