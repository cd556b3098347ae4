"""The server's log: one line for each message, whatever a gateway put into it."""

import logging

from hospital_rig import Rig, ward

from qepa_server.main import OneLine
from qepa_uplink.envelope import sign
from qepa_uplink.messages import CellVoid


def test_a_reason_of_a_gateway_forges_no_line(tmp_path, caplog):
    rig = Rig(tmp_path, ward(1, 12), max_rounds=1)
    gateway = rig.gateways["gw-1"]

    def void(partial):
        about = {"round": partial.round, "cell": partial.cell, "stream": partial.stream}
        reason = "x\n2026-01-01 server INFO all is well\x1b[2J"
        gateway.send(sign(gateway.identity, CellVoid(id="v", gateway="gw-1", reason=reason, **about)))
        return partial

    gateway.tamper = void
    rig.connect()
    with caplog.at_level("INFO"):
        rig.pass_time(4)
    lines = [OneLine("%(levelname)s %(message)s").format(record) for record in caplog.records]
    assert any("all is well" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_traceback_keeps_its_lines():
    try:
        raise ValueError("why")
    except ValueError as error:
        found = (ValueError, error, error.__traceback__)
        record = logging.LogRecord("x", logging.ERROR, "file", 1, "failed: %s", ("a\nb",), found)
    said = OneLine("%(message)s").format(record)
    assert said.startswith("failed: a\\nb\nTraceback")
