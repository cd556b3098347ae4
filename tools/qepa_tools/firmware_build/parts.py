"""Which modules of the firmware a board needs: those of its sensors and its transport, and what these import.

A board that measures an ECG has no use for a pulse oximeter. What is chosen while a board runs (drivers by chip,
signals by channel, the connection by identity) is imported inside functions of four modules; here the same choice is
made before.
"""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping

from qepa_board.drivers import DRIVERS

from ..errors import ToolError

ROOTS = ("qepa_board.app", "qepa_board.system.dock", "qepa_board.system.safe_mode")
TRANSPORTS = {
    "mqtt": ("qepa_board.transport.connection", "qepa_board.transport.broker_tls"),
    "ble": ("qepa_board.transport.ble_connection", "qepa_board.transport.bonds"),
}
# What qepa_board.sensing makes of a channel
SIGNALS = {
    "ecg": "qepa_board.signals.vitals",
    "resp": "qepa_board.signals.respiration",
    "ir": "qepa_board.signals.optics",
    "ax": "qepa_board.signals.motion",
    "temperature": "qepa_board.signals.temperature",
    "glucose": "qepa_board.signals.glucose",
}
ECG_RESPIRATION = "qepa_board.signals.respiration"  # what board.json's "ecg_respiration" asks for
# Modules whose functions import what the running board has chosen
_CHOOSERS = ("qepa_board.drivers", "qepa_board.sensing", "qepa_board.transport.opening", "qepa_board.signals.vitals")


def needed(
    sources: Mapping[str, str], packages: Collection[str], chips: Iterable[str], transports: Iterable[str]
) -> set[str]:
    """Names of the modules among ``sources`` (name: text) that a board with these chips and transports can need.

    ``packages``: those of the names that are packages. Raises ToolError for a chip or transport that there is not.
    """
    trees = {name: ast.parse(text) for name, text in sources.items()}
    wanted = [*ROOTS, *(name for name in sources if name.startswith("qepa_kernels"))]
    for transport in transports:
        if transport not in TRANSPORTS:
            raise ToolError(f"no transport {transport}: choose one of {', '.join(TRANSPORTS)}.")
        wanted += TRANSPORTS[transport]
    for chip in chips:
        if chip not in DRIVERS:
            raise ToolError(f"no driver for {chip}: there are {', '.join(sorted(DRIVERS))}.")
        module, class_ = DRIVERS[chip]
        driver = f"qepa_board.drivers.{module}"
        channels = _channels(trees[driver], class_)
        wanted += [driver, *(signal for channel, signal in SIGNALS.items() if channel in channels)]
        if "ecg" in channels:
            wanted.append(ECG_RESPIRATION)
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in trees and name not in found:
            found.add(name)
            wanted += _imports(name, trees[name], packages)
            wanted.append(name.rpartition(".")[0])
    return found


def _channels(tree: ast.Module, class_: str) -> tuple[str, ...]:
    """The class's ``channels``, which it may have from its base."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in classes[class_].body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "channels" for t in node.targets):
            channels: tuple[str, ...] = ast.literal_eval(node.value)
            return channels
    for base in classes[class_].bases:
        if isinstance(base, ast.Name) and base.id in classes:
            return _channels(tree, base.id)
    raise ToolError(f"driver {class_} names no channels.")


def _imports(name: str, tree: ast.Module, packages: Collection[str]) -> Iterator[str]:
    nodes = tree.body if name in _CHOOSERS else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            base = parts[: len(parts) - node.level + (name in packages)] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
