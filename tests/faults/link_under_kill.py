"""Starts an end of a link again and again: `python link_under_kill.py alice|bob CONFIG`.

A line on standard input forks a process, which has everything imported already and runs the program of that end until
it is killed. Standard output: its process id on a line, then what the program prints when it is up, or null once it
has ended by itself.
"""

import os
import signal
import sys
import traceback

import numpy as np

from qepa_qkd.alice import run_alice
from qepa_qkd.bob import run_bob
from qepa_qkd.link_end import main
from qepa_qkd.privacy_amplification import toeplitz_hash
from qepa_qkd.reconciliation import METHODS
from qepa_qkd.universal_hash import PolynomialHash


def compile_all():
    """Have in memory what a life would have to load or compile first."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, 60_000, dtype=np.uint8)
    reference = METHODS["cascade"].reference(bits, bytes(16), 0.01)
    corrector = METHODS["cascade"].corrector(bits ^ (rng.random(len(bits)) < 0.01), bytes(16), 0.01)
    while (question := corrector.request()) is not None:
        corrector.receive(question, reference.answer(question))
    toeplitz_hash(bits, rng.integers(0, 2, len(bits) + 9_999, dtype=np.uint8), 10_000)
    PolynomialHash(bytes(range(16))).update(bytes(1000))


def serve(role, config):
    """Fork a life for every line."""
    compile_all()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    for _ in sys.stdin:
        if os.fork() == 0:
            os.write(1, f"{os.getpid()}\n".encode())
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                main(role, run_alice if role == "alice" else run_bob, ["--config", config])
            except BaseException:
                traceback.print_exc()
            os.write(1, b"null\n")
            os._exit(1)


if __name__ == "__main__":
    serve(*sys.argv[1:])
