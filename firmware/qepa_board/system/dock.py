"""What the key dock runs on a board over its USB REPL; every call prints one line of JSON.

The application need not stop: it looks for what it lacks once a second. A change of identity needs a reset, and the
answer says so. Nothing here prints a key.
"""

# ruff: noqa: B904  MicroPython knows no exception chaining and warns on the console

import json

from qepa_wire.errors import WireError

from ..errors import BoardError, CountersLostError
from ..keys.counters import Counters
from ..keys.identity import FILE, load_identity, parse_identity
from ..keys.keyring import PadStore
from ..transport.outbox import PREFIX
from .flash import Flash

_FLOORS = ("boots", "epoch", "seq", "round")


def _answer(work):
    try:
        record = {"ok": True}
        record.update(work(Flash()))
    except (BoardError, WireError) as error:
        record = {"ok": False, "reason": error.reason, "error": str(error)}
    print(json.dumps(record))


def provision(text):
    """Store identity.json; counters are created if there never were any, and never erased.

    ``text`` may hold "floors": {"boots", "epoch", "seq", "round"}, above which lost counters start again.
    """
    _answer(lambda flash: _provision(flash, text))


def _provision(flash, text):
    identity = parse_identity(text)
    try:
        before = load_identity(flash)
    except BoardError:
        before = None
    had_file = flash.read(FILE) is not None
    try:
        Counters.load(flash)
    except CountersLostError:
        floors = json.loads(text).get("floors")
        fresh = not had_file or (before is not None and before.end_key != identity.end_key)
        if floors is None and not fresh:
            raise CountersLostError(
                "counters", "lost: provision with a new end_key, or with floors above all that was used"
            )
        _create(flash, floors)
    if before is not None and before.board != identity.board:
        for name in flash.names():
            if name.startswith(PREFIX):
                flash.remove(name)
    # Counters first: an identity without counters means that they were lost.
    flash.write(FILE, text if isinstance(text, bytes) else text.encode())
    return {"board": identity.board, "reset": before is not None}


def _create(flash, floors):
    if floors is None:
        floors = {}
    if not isinstance(floors, dict):
        raise BoardError("identity", "floors")
    values = []
    for name in _FLOORS:
        value = floors.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
            raise BoardError("identity", "floors." + name)
        values.append(value)
    Counters.create(flash, *values)


def load(pads_hex):
    """Append QKD pads: 48 bytes each (key_ID, key), in hexadecimal. Known ones are ignored."""
    _answer(lambda flash: _load(flash, pads_hex))


def _load(flash, pads_hex):
    try:
        data = bytes.fromhex(pads_hex)
    except (TypeError, ValueError):
        raise BoardError("pads", "not hexadecimal")
    store = PadStore(flash)
    try:
        current_id = Counters.load(flash).key_id
    except CountersLostError:
        current_id = b""
    loaded, known = store.load(data, current_id)
    return {"loaded": loaded, "known": known, "pads": store.count()}


def status():
    """Print what this board is and holds; no secrets."""
    _answer(_status)


def _status(flash):
    """A board whose counters are lost is as good as not provisioned: it needs a new end key."""
    try:
        identity = load_identity(flash)
    except BoardError:
        identity = None
    try:
        counters = Counters.load(flash)
    except CountersLostError:
        counters = None
    return {
        "provisioned": identity is not None and counters is not None,
        "board": None if identity is None else identity.board,
        "gateway": None if identity is None else identity.gateway,
        "pads": PadStore(flash).count(),
        "counters": counters is not None,
        "boots": 0 if counters is None else counters.boots,
        "epoch": 0 if counters is None else counters.epoch,
        "steps": 0 if counters is None else counters.steps,
        "has_key": counters is not None and counters.has_key,
        "round": 0 if counters is None else counters.last_round(),
        "model": 0 if counters is None else counters.model,
    }
