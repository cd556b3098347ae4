"""Two pseudo-terminals joined like serial ports by a null modem, for a classical channel without a cable."""

import contextlib
import os
import select
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PIECE_BYTES: Final = 256
_WAIT_S: Final = 0.1

Spoil = Callable[[int, bytes], bytes]
"""Takes the number of the sending end, 0 or 1, and its bytes; returns what arrives."""


class NullModem:
    """Bytes pass at `bits_per_s` until `close`; a program may close its port and open it again, as with real ports.

    `links` name the ports, and are made anew, so that names stay while terminals change.
    """

    def __init__(
        self, links: tuple[Path, Path], *, bits_per_s: int = 921_600, spoil: Spoil = lambda _, data: data
    ) -> None:
        self.spoil = spoil
        self._byte_s = 10 / bits_per_s
        self._masters, self._slaves = zip(*(os.openpty() for _ in links), strict=True)
        for slave, link in zip(self._slaves, links, strict=True):
            tty.setraw(slave)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.ttyname(slave))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._carry, args=(end,), daemon=True) for end in (0, 1)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Pull both plugs."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        for descriptor in (*self._masters, *self._slaves):
            os.close(descriptor)

    def _carry(self, end: int) -> None:
        source, target = self._masters[end], self._masters[1 - end]
        os.set_blocking(target, False)
        while not self._over.is_set():
            if not select.select([source], [], [], _WAIT_S)[0]:
                continue
            with contextlib.suppress(BlockingIOError):
                data = os.read(source, _PIECE_BYTES)
                time.sleep(self._byte_s * len(data))
                self._deliver(target, self.spoil(end, data))

    def _deliver(self, target: int, data: bytes) -> None:
        while data and not self._over.is_set():
            if select.select([], [target], [], _WAIT_S)[1]:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(target, data) :]
