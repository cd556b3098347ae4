"""Link keys of one board by epoch (qepa_wire/PROTOCOL.md section 10).

The current epoch has all its keys. Of the one before it only those remain that open frames the board sends again:
not the link key, from which later keys could be derived, and not the key of frames down.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from qepa_wire.keys import LINK_ALERT, LINK_MAC_DOWN, LINK_MAC_UP, LINK_MASK, derive, ratchet
from qepa_wire.payloads import MAX_RATCHET_STEPS

from ..errors import Refused

KEPT_EPOCHS = 2


@dataclass(frozen=True, slots=True)
class KeyReference:
    """Where an epoch's link key comes from: QKD pad ``key_id``, ``steps`` ratchet steps on."""

    key_id: bytes
    steps: int


@dataclass(frozen=True, slots=True)
class EpochKeys:
    """Keys of one epoch; ``link`` and ``mac_down`` are empty once a later epoch has begun. ``repr`` shows none."""

    epoch: int
    reference: KeyReference
    mac_up: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    alert: bytes = field(repr=False)
    link: bytes = field(repr=False, default=b"")
    mac_down: bytes = field(repr=False, default=b"")

    def retired(self) -> "EpochKeys":
        """The same epoch without what only a current one needs."""
        return EpochKeys(self.epoch, self.reference, self.mac_up, self.mask, self.alert)


@dataclass(frozen=True, slots=True)
class Derivation:
    """How to get a new epoch's link key: ``steps`` on from ``base``, or from the pad itself if ``base`` is None."""

    base: bytes | None = field(repr=False)
    steps: int


def epoch_keys(epoch: int, reference: KeyReference, base: bytes, steps: int) -> EpochKeys:
    """Return the keys of an epoch whose link key is ``steps`` ratchet steps on from ``base``."""
    link = ratchet(base, steps)
    return EpochKeys(
        epoch,
        reference,
        derive(link, LINK_MAC_UP),
        derive(link, LINK_MASK),
        derive(link, LINK_ALERT),
        link,
        derive(link, LINK_MAC_DOWN),
    )


class Keyring:
    """The current epoch of one board and the one before. ``highest`` is the highest epoch ever authenticated."""

    def __init__(self, epochs: Iterable[EpochKeys] = (), highest: int = 0) -> None:
        self._epochs = {keys.epoch: keys for keys in epochs}
        self.highest = max(highest, *self._epochs) if self._epochs else highest

    @property
    def current(self) -> EpochKeys | None:
        """Keys of the highest epoch, or None before the first HELLO."""
        return self._epochs.get(self.highest)

    def keys(self, epoch: int) -> EpochKeys | None:
        """Keys of ``epoch`` if they are still held."""
        return self._epochs.get(epoch)

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs whose keys are held, oldest first."""
        return tuple(sorted(self._epochs))

    def plan(self, epoch: int, reference: KeyReference) -> Derivation:
        """Tell how to derive the keys of a new ``epoch``.

        Raises Refused("epoch") unless it is above the highest, Refused("ratchet") for a reference that is not ahead
        of the last one or too far ahead.
        """
        if epoch <= self.highest:
            raise Refused("epoch", f"{epoch} after {self.highest}")
        if reference.steps > MAX_RATCHET_STEPS:
            raise Refused("ratchet", f"{reference.steps} steps")
        current = self.current
        if current is None or current.reference.key_id != reference.key_id:
            return Derivation(None, reference.steps)
        if reference.steps <= current.reference.steps:
            raise Refused("ratchet", f"{reference.steps} steps after {current.reference.steps}")
        return Derivation(current.link, reference.steps - current.reference.steps)

    def begin(self, keys: EpochKeys) -> tuple[int, ...]:
        """Make authenticated ``keys`` the current epoch; return the epochs whose keys are now forgotten."""
        if keys.epoch <= self.highest:
            raise Refused("epoch", f"{keys.epoch} after {self.highest}")
        before = self.current
        if before is not None:
            self._epochs[before.epoch] = before.retired()
        self._epochs[keys.epoch] = keys
        self.highest = keys.epoch
        dropped = self.epochs[:-KEPT_EPOCHS]
        for epoch in dropped:
            del self._epochs[epoch]
        return dropped
