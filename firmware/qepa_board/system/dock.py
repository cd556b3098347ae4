"""What the key dock runs on a board over its USB REPL; every call prints one line of JSON.

The application need not stop: it looks for what it lacks once a second. A change of identity needs a reset, and the
answer says so. Nothing here prints a key. A raw REPL after a soft reset has not run main.py: there,
`from qepa_boot.loader import attach; attach()` comes first.
"""

# ruff: noqa: B904  MicroPython knows no exception chaining and warns on the console

import binascii
import json

from qepa_boot.record import NAMES
from qepa_wire.errors import WireError

from ..errors import BoardError, CountersLostError
from ..keys.blocks import PREFIX as BLOCKS
from ..keys.blocks import BlockStore
from ..keys.counters import Counters
from ..keys.identity import FILE, load_identity, parse_identity
from ..keys.keyring import PADS_FILE, PadStore
from ..transport.bonds import FILE as BONDS
from ..transport.outbox import PREFIX
from ..transport.ring import PREFIX as RING
from .flash import Flash
from .report import report
from .slots import BoardSlots

_MAX_TEXT = 40000  # characters of one argument
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
    rekeyed = before is not None and before.end_key != identity.end_key
    floors = None
    try:
        Counters.load(flash)
    except CountersLostError:
        floors = json.loads(text).get("floors")
        if floors is None and not rekeyed and flash.read(FILE) is not None:
            raise CountersLostError(
                "counters", "lost: provision with a new end_key, or with floors above all that was used"
            )
        floors = _floors({} if floors is None else floors)
    if before is not None:
        _drop_what_is_anothers(flash, before, identity)
    if floors is not None:
        if rekeyed:
            flash.remove(FILE)  # whenever the power fails, its old end key never meets counters that begin anew
        Counters.create(flash, *floors)
    # Counters first: an identity without counters means that they were lost.
    flash.write(FILE, text if isinstance(text, bytes) else text.encode())
    return {"board": identity.board, "reset": before is not None}


def _drop_what_is_anothers(flash, before, identity):
    """Frames of another board number; keys and a bond that another gateway shares, care records kept for it."""
    renamed = before.board != identity.board
    moved = before.gateway != identity.gateway
    for name in flash.names():
        frames = name.startswith(PREFIX) and renamed
        keys = (name == PADS_FILE and moved) or (name.startswith(BLOCKS) and (moved or renamed))
        peers = (name == BONDS or name.startswith(RING)) and (moved or renamed)
        if frames or keys or peers:
            flash.remove(name)


def _floors(floors):
    if not isinstance(floors, dict):
        raise BoardError("identity", "floors")
    values = []
    for name in _FLOORS:
        value = floors.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
            raise BoardError("identity", "floors." + name)
        values.append(value)
    return values


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


def load_blocks(blocks_hex, size):
    """Append one-time blocks: key_ID and ``size`` bytes of key each, in hexadecimal. Known ones are ignored."""
    _answer(lambda flash: _load_blocks(flash, blocks_hex, size))


def _load_blocks(flash, blocks_hex, size):
    try:
        data = bytes.fromhex(blocks_hex)
    except (TypeError, ValueError):
        raise BoardError("blocks", "not hexadecimal")
    store = BlockStore(flash)
    loaded, known = store.load(data, size)
    return {"loaded": loaded, "known": known, "block_bytes": store.left()}


def _bytes(text):
    try:
        if len(text) > _MAX_TEXT:
            raise BoardError("argument", "%d characters" % len(text))
        return binascii.a2b_base64(text.encode())
    except (AttributeError, TypeError, ValueError):
        raise BoardError("argument", "not base64")


def _updater(flash):
    try:
        identity = load_identity(flash)
    except BoardError:
        identity = None
    if identity is None:
        return BoardSlots(flash).updater(None)
    return BoardSlots(flash).updater(identity.firmware_root, identity.transport)


def update_begin(manifest, signature):
    """Start or go on with an update; both in base64, as a bundle holds them.

    Answers the slot it goes to, and what is missing: a list of [path, size, bytes that are there already].
    """
    _answer(lambda flash: _update_begin(_updater(flash), _bytes(manifest), _bytes(signature)))


def _update_begin(updater, manifest, signature):
    missing = updater.begin(manifest, signature)
    return {"slot": NAMES[updater.spare], "missing": missing}


def update_write(path, offset, data):
    """Put ``data`` (base64, at most 4096 bytes) at ``offset`` of a file; answers its size. Offset: what is there."""
    _answer(lambda flash: {"size": _updater(flash).write(path, offset, _bytes(data))})


def update_finish():
    """Verify the update; from the next reset on it is on trial."""
    _answer(lambda flash: {"version": _updater(flash).finish(), "reset": True})


def choose(slot):
    """Run slot "a" or "b", just filled by cable, from the next reset on; its files are verified first."""
    _answer(lambda flash: _choose(BoardSlots(flash), slot))


def _choose(slots, slot):
    slots.choose(slot)
    return {"slot": slot, "reset": True}


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
    blocks = BlockStore(flash)
    record = report(flash, BoardSlots(flash))
    record.update(
        {
            "provisioned": identity is not None and counters is not None,
            "board": None if identity is None else identity.board,
            "gateway": None if identity is None else identity.gateway,
            "pads": PadStore(flash).count(),
            "blocks": len(blocks.key_ids()),
            "block_bytes": blocks.left(),
            "counters": counters is not None,
            "boots": 0 if counters is None else counters.boots,
            "epoch": 0 if counters is None else counters.epoch,
            "steps": 0 if counters is None else counters.steps,
            "has_key": counters is not None and counters.has_key,
            "round": 0 if counters is None else counters.last_round(),
            "model": 0 if counters is None else counters.model,
        }
    )
    return record
