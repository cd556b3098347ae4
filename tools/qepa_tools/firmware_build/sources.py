"""The board's sources as they are compiled for a bundle: all of the firmware's packages, made small together."""

import ast
import re
from collections.abc import Container, Iterable
from pathlib import Path

import qepa_board
import qepa_boot
import qepa_kernels
import qepa_wire
from qepa_board.drivers import DRIVERS

from .parts import TRANSPORTS, needed
from .shrink import shrink

NATIVE_SOURCE = "viper.py"  # of qepa_kernels: for build_kernels, not for a board

_PACKAGES = (qepa_board, qepa_kernels, qepa_wire)
_DRIVERS = "qepa_board.drivers"  # its table names the module of each chip
_DOCK = "qepa_board.system.dock"  # each of its public functions is called over the console
# What the loader starts, and what is asked on the console whether a board runs
_ASKED_FOR = (
    *("run", "App", "running", "can_send", "connection", "ready", "IMPLEMENTATION"),
    *("sensing", "feeds", "driver", "state", "samples", "link", "acknowledged"),
)


def chosen_sources(
    *, chips: Iterable[str] | None = None, transports: Iterable[str] = TRANSPORTS
) -> dict[str, tuple[str, str]]:
    """Modules that boards with these sensors and transports need: name to path below /lib and text, as they are.

    ``chips`` None: all that there are. Raises ToolError for unknown ones.
    """
    found: dict[str, tuple[str, str]] = {}
    for package in _PACKAGES:
        root = Path(package.__file__ or "").parent
        for path in sorted(root.rglob("*.py")):
            if path.name != NATIVE_SOURCE:
                inside = path.relative_to(root.parent)
                parts = inside.with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = inside.as_posix(), path.read_text()
    texts = {name: text for name, (_, text) in found.items()}
    packages = {name for name in texts if any(other.startswith(name + ".") for other in texts)}
    wanted = needed(texts, packages, DRIVERS if chips is None else chips, transports)
    return {name: each for name, each in found.items() if name in wanted}


def board_sources(
    keep: Iterable[str] = (), *, chips: Iterable[str] | None = None, transports: Iterable[str] = TRANSPORTS
) -> dict[str, str]:
    """The chosen sources made small, path below /lib (qepa_board/app.py) to text.

    ``keep``: further names that another program will ask for. Raises ToolError for unknown chips or transports.
    """
    chosen = chosen_sources(chips=chips, transports=transports)
    texts = {name: text for name, (_, text) in chosen.items()}
    texts[_DRIVERS] = _only_drivers(texts[_DRIVERS], texts)
    native = Path(qepa_kernels.__file__ or "").with_name(NATIVE_SOURCE).read_text()
    calls = [name for name in _functions(texts[_DOCK]) if not name.startswith("_")]
    loader = Path(qepa_boot.__file__ or "").parent.glob("*.py")  # stays as it is, and hands its objects to the others
    words = [word for path in loader for word in re.findall(r"\w+", path.read_text())]
    small = shrink(texts, keep={*_ASKED_FOR, *calls, *keep}, fixed=[*_functions(native), *words])
    return {chosen[name][0]: text for name, text in small.items()}


def _only_drivers(text: str, modules: Container[str]) -> str:
    """The package with a table of just those drivers that are among ``modules``."""
    tree = ast.parse(text)
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Dict)
            and ast.unparse(node.targets[0]) == "DRIVERS"
        ):
            chips = {
                ast.literal_eval(key): value
                for key, value in zip(node.value.keys, node.value.values, strict=True)
                if key
            }
            kept = {c: v for c, v in chips.items() if f"{_DRIVERS}.{ast.literal_eval(v)[0]}" in modules}
            node.value = ast.Dict([ast.Constant(chip) for chip in kept], list(kept.values()))
    return ast.unparse(ast.fix_missing_locations(tree))


def reached_kernels(sources: dict[str, str]) -> set[str]:
    """Kernels that the firmware in ``sources`` uses."""
    return set(_functions(sources["qepa_kernels/bytecode.py"]))


def _functions(text: str) -> list[str]:
    return [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
