"""One round of Flower's SecAgg+ through its own client function, in Flower's own environment; prints one JSON line.

    python flower_secagg.py CLIENTS WORDS NEIGHBOURS THRESHOLD

Imports nothing of QEPA: Flower's requirements do not fit beside ours, so it has an interpreter of its own (peers.py).
Seconds are CPU seconds. Of the server, only what this does is here that needs no network: adding and unmasking.
"""

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.supercore.task_identity import TaskIdentity

CLIP, STEPS, MODULUS = 8.0, 1 << 22, 1 << 32  # the defaults of Flower's own workflow


class Client:
    """One client: its context and the CPU seconds and bytes that it spent."""

    def __init__(self, node: int, values: Any) -> None:
        self.node = node
        self.values = values
        self.context = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
        self.seconds = 0.0
        self.bytes = 0

    def ask(self, stage: str, configs: dict[str, Any]) -> Any:
        """Hand the message of a stage to Flower's client function; return what it answers."""
        content = RecordDict({RECORD_KEY_CONFIGS: ConfigRecord({Key.STAGE: stage, **configs})})
        message = Message(content, dst_node_id=self.node, message_type="train", group_id="1")
        start = time.process_time()
        answer = secaggplus_mod(message, self.context, self._fit)
        self.seconds += time.process_time() - start
        record = answer.content.config_records[RECORD_KEY_CONFIGS]
        self.bytes += sum(_size(value) for value in record.values())
        return record

    def _fit(self, message: Any, _context: Any) -> Any:
        result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([self.values]), 1, {})
        return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(_size(each) for each in value)
    return len(value) if isinstance(value, bytes) else 8


def run(n_clients: int, words: int, neighbours: int, threshold: int) -> dict[str, Any]:
    """Seconds of a client, of adding, of unmasking; bytes that a client sends; the largest error of the mean."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1  # who sends, which Flower's daemon sets
    rng = np.random.default_rng(1)
    clients = {node: Client(node, rng.uniform(-1, 1, words)) for node in range(1, n_clients + 1)}
    near = {
        node: [1 + (node - 1 + step) % n_clients for step in range(-(neighbours // 2), neighbours // 2 + 1)]
        for node in clients
    }
    settings = {
        Key.SAMPLE_NUMBER: n_clients,
        Key.SHARE_NUMBER: neighbours,
        Key.THRESHOLD: threshold,
        Key.CLIPPING_RANGE: CLIP,
        Key.TARGET_RANGE: STEPS,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: 1.0,
    }
    public = {node: client.ask(Stage.SETUP, settings) for node, client in clients.items()}
    pairs = {node: [keys[Key.PUBLIC_KEY_1], keys[Key.PUBLIC_KEY_2]] for node, keys in public.items()}
    sent: dict[int, list[tuple[int, bytes]]] = {node: [] for node in clients}
    for node, client in clients.items():
        shares = client.ask(Stage.SHARE_KEYS, {str(other): pairs[other] for other in near[node]})
        for to, ciphertext in zip(shares[Key.DESTINATION_LIST], shares[Key.CIPHERTEXT_LIST], strict=True):
            sent[to].append((node, ciphertext))
    masked = []
    for node, client in clients.items():
        sources, ciphertexts = [each[0] for each in sent[node]], [each[1] for each in sent[node]]
        answer = client.ask(Stage.COLLECT_MASKED_VECTORS, {Key.CIPHERTEXT_LIST: ciphertexts, Key.SOURCE_LIST: sources})
        masked.append(answer[Key.MASKED_PARAMETERS])
    start = time.process_time()
    total = [bytes_to_ndarray(data) for data in masked[0]]
    for each in masked[1:]:
        total = parameters_addition(total, [bytes_to_ndarray(data) for data in each])
    total = parameters_mod(total, MODULUS)
    added = time.process_time()
    seeds: dict[int, list[bytes]] = {node: [] for node in clients}
    for node, client in clients.items():
        answer = client.ask(Stage.UNMASK, {Key.ACTIVE_NODE_ID_LIST: near[node], Key.DEAD_NODE_ID_LIST: []})
        for owner, share in zip(answer[Key.NODE_ID_LIST], answer[Key.SHARE_LIST], strict=True):
            seeds[owner].append(share)
    unmasking = time.process_time()
    for shares in seeds.values():
        mask = pseudo_rand_gen(combine_shares(shares), MODULUS, get_parameters_shape(total))
        total = parameters_subtraction(total, mask)
    weight, total = factor_extract(parameters_mod(total, MODULUS))
    (mean,) = dequantize(total, CLIP, STEPS)
    mean = (mean - (n_clients - 1) * CLIP) * (STEPS / weight)
    opened = time.process_time()
    true = sum(client.values for client in clients.values()) / n_clients
    return {
        "version": version("flwr"),
        "client_s": sum(client.seconds for client in clients.values()) / n_clients,
        "add_s": added - start,
        "open_s": opened - unmasking,
        "bytes": sum(client.bytes for client in clients.values()) // n_clients,
        "error": float(np.abs(mean - true).max()),
    }


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:]))))
