"""A flash in memory whose power can be cut at any write."""

import pytest


class PowerCut(BaseException):
    """Nothing on the board survives this, no handler runs."""


class MortalFlash:
    """The interface of qepa_board.system.flash.Flash. ``dies_at`` counts writes and removals; ``applied`` says whether
    the fatal one still reached the flash (a rename is atomic: all of it or nothing)."""

    def __init__(self):
        self.files = {}
        self.operations = 0
        self.dies_at = None
        self.applied = False

    def names(self):
        return sorted(self.files)

    def read(self, name):
        return self.files.get(name)

    def write(self, name, data):
        self._act(lambda: self.files.__setitem__(name, bytes(data)))

    def remove(self, name):
        self._act(lambda: self.files.pop(name, None))

    def _act(self, change):
        self.operations += 1
        if self.operations == self.dies_at:
            if self.applied:
                change()
            raise PowerCut
        change()


@pytest.fixture
def flash():
    return MortalFlash()


@pytest.fixture
def power_cut():
    return PowerCut
