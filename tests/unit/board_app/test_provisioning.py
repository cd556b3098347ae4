"""A power cut at any write of provisioning: the identity is whole or absent, and no counter meets an old key anew."""

import json

import pytest

from qepa_board.errors import BoardError, CountersLostError
from qepa_board.keys.counters import Counters
from qepa_board.keys.identity import load_identity
from qepa_board.system.dock import _load, _provision

OLD = {
    "board": 42,
    "gateway": "gw-1",
    "broker": {"host": "broker", "port": 1883},
    "fs_hz": 256,
    "rekey_s": 30,
    "end_key": "11" * 32,
    "cohort_key": "22" * 32,
    "model_root": "00" * 60,
}
RENEWED = OLD | {"end_key": "33" * 32}
MOVED = RENEWED | {"board": 43, "gateway": "gw-2"}
FLOORS = {"boots": 9, "epoch": 8, "seq": 2048, "round": 7}
SEALED = 5
"""Last round that a board had answered under its old key."""


def blank(flash):
    """A board as it comes from the flasher."""


def at_work(flash):
    """A board with counters, pads, and a vector that waits for its gateway."""
    _provision(flash, json.dumps(OLD))
    _load(flash, "ab" * 48)
    counters = Counters.load(flash)
    counters.start_boot()
    counters.reserve_round(1, SEALED)
    flash.write("out-00000001", b"a frame")


def without_counters(flash):
    """A board whose counters wore out."""
    at_work(flash)
    flash.remove("counters")


def stored(flash):
    """Its identity, as JSON tells it, and the last round of its counters; None for what is not there."""
    try:
        identity = json.loads(flash.read("identity.json")) if load_identity(flash) else None
    except BoardError as error:
        raise AssertionError(f"half an identity: {error}") from error
    try:
        return identity, Counters.load(flash).last_round()
    except CountersLostError:
        return identity, None


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("board", "identity", "least_round"),
    [
        (blank, OLD, 0),
        (blank, OLD | {"floors": FLOORS}, FLOORS["round"]),
        (at_work, RENEWED, SEALED),
        (at_work, MOVED, SEALED),
        (without_counters, RENEWED, 0),
        (without_counters, MOVED, 0),
        (without_counters, OLD | {"floors": FLOORS}, FLOORS["round"]),
        (without_counters, MOVED | {"floors": {"round": 1}}, 1),
    ],
)
def test_whenever_the_power_fails_an_identity_is_whole_or_absent_and_the_dock_finishes(
    flash, power_cut, board, identity, least_round, applied
):
    for moment in range(1, 100):
        flash.files.clear()
        flash.dies_at, flash.applied = None, applied
        board(flash)
        old, had_round = stored(flash)
        flash.operations, flash.dies_at = 0, moment
        try:
            _provision(flash, json.dumps(identity))
        except power_cut:
            is_cut = True
        else:
            is_cut = False
        flash.dies_at = None
        now, round_ = stored(flash)
        assert now in (None, old, identity)
        if had_round is not None:
            assert round_ is not None
            assert round_ >= had_round
        elif now == old and old is not None and round_ is not None:
            assert round_ >= FLOORS["round"], "the old end key would meet counters that begin anew"
        _provision(flash, json.dumps(identity))
        now, round_ = stored(flash)
        assert now == identity
        assert round_ >= least_round
        if identity["gateway"] != OLD["gateway"]:
            assert not {"pads", "out-00000001"} & set(flash.names())
        if not is_cut:
            assert moment > 1
            return
    raise AssertionError("provisioning does not end")
