"""A KME that is killed: forks a process a life, which serves requests from a pipe until SIGKILL.

    python kme_under_kill.py alice|bob DIRECTORY

Standard input: a JSON line of requests a life; standard output: an answer a line, then the empty line when the life is
over. Each life kills itself `delay_s` after it began, at whatever point it has reached.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.config import KmeSection, SaePair
from qepa_qkd.delivery import KeyDelivery
from qepa_qkd.errors import KeyNotFound, StockTooLow
from qepa_qkd.vault import Vault

SECRET = InitialSecret.parse(bytes(range(256)) * 2)


def open_delivery(role, directory):
    """Return (vault, delivery) of one end in `directory`."""
    vault = Vault(directory / f"{role}.db", directory / f"{role}.kek", SECRET, is_alice=role == "alice")
    files = dict.fromkeys(("certificate", "private_key", "client_ca"), directory)
    pairs = [SaePair(master="dock", slave="gw-1")]
    config = KmeSection(listen="127.0.0.1:0", id=role, peer_id="peer", sae=pairs, replay_window_s=300, **files)
    return vault, KeyDelivery(config, role, vault)


def serve(role, directory, life):
    """Answer the requests of one life."""
    threading.Thread(target=_kill_after, args=(life["delay_s"],), daemon=True).start()
    _, delivery = open_delivery(role, directory)
    for request in life["requests"]:
        try:
            if role == "alice":
                answer = delivery.hand_out("dock", ["gw-1"], request["number"], 32, request["id"])
            else:
                key_ids = [UUID(key_id) for key_id in request["key_ids"]]
                answer = delivery.redeem("dock", "gw-1", key_ids, request["id"])
            keys = [[str(key.key_id), key.value.hex()] for key in answer.keys]
        except (KeyNotFound, StockTooLow) as refusal:
            keys = type(refusal).__name__
        os.write(1, json.dumps({"id": request["id"], "keys": keys}).encode() + b"\n")
    time.sleep(60)


def _kill_after(delay_s):
    time.sleep(delay_s)
    os.kill(os.getpid(), signal.SIGKILL)


def main(role, directory):
    """Run lives until standard input ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            serve(role, Path(directory), json.loads(line))
        _, status = os.waitpid(child, 0)
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit("a life ended by itself")
        os.write(1, b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
