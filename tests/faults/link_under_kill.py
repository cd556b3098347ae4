"""Starts an end of a link again and again: `python link_under_kill.py alice|bob CONFIG`.

A line on standard input forks a process, which has everything imported already and runs the program of that end until
it is killed. Standard output: its process id on a line, then what the program prints when it is up, or null once it
has ended by itself.
"""

import os
import signal
import sys
import traceback

from qepa_qkd.alice import run_alice
from qepa_qkd.bob import run_bob
from qepa_qkd.link_end import main
from qepa_qkd.rehearsal import rehearse


def serve(role, config):
    """Fork a life for every line."""
    rehearse("cascade")
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
