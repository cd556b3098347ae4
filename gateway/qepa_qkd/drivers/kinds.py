"""Which kinds of receiver there are, by the name a configuration gives."""

from collections.abc import Sequence
from typing import Final, Literal

from qepa_qkd.drivers.receiver import OnEvents, Receiver
from qepa_qkd.drivers.tdc1 import Tdc1
from qepa_qkd.drivers.terminal import Terminal

Kind = Literal["qepa", "tdc1"]

DETECTORS: Final = (0, 1, 2, 3)


async def open_receiver(kind: Kind, path: str, on_events: OnEvents, channels: Sequence[int] = DETECTORS) -> Receiver:
    """Open the receiver of this kind at `path`; `channels` say what is on the inputs of a bought tagger.

    Raises PortError, WrongDeviceError, WrongVersionError.
    """
    if kind == "qepa":
        return await Terminal.open(path, on_events, role="receiver")
    return await Tdc1.open(path, on_events, channels=channels)
