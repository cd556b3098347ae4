"""`qepa link advise`: best settings for a measured loss and background, and what limits the key rate."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from qepa_qkd.advice import RECOMMENDED, Advice, Constraints, evaluate, seconds_to_a_key
from qepa_qkd.advice import advise as best_settings
from qepa_qkd.channel_model import Channel
from qepa_qkd.decoy import PROOFS, EpsilonBudget, SourceSettings

from ..command_line import JsonOption, fail

_DAY_S = 86_400


def advise(
    *,
    loss_db: Annotated[float, typer.Option(help="Aperture to click: air, receiver optics, detector efficiency.")] = 6.6,
    background_hz: Annotated[float, typer.Option(help="Stray light and dark counts, all detectors, ungated.")] = 2200.0,
    misalignment: Annotated[float, typer.Option(help="Share of photons in the wrong detector of a basis.")] = 0.01,
    pulse_rate_hz: Annotated[float, typer.Option(help="Pulses a second.")] = 1e6,
    gate_ns: Annotated[float, typer.Option(help="Width of the window around a pulse that counts.")] = 100.0,
    dead_time_ns: Annotated[float, typer.Option(help="Of one detector.")] = 1200.0,
    receiver_basis: Annotated[
        float, typer.Option(help="Share that the splitter sends to the key basis; 0: free.")
    ] = 0.7,
    seconds: Annotated[float, typer.Option(help="Longest time a block may take to fill.")] = 30.0,
    efficiency: Annotated[float, typer.Option(help="Of error correction: leak over n h(Q).")] = 1.05,
    epsilon_secrecy: Annotated[float, typer.Option(help="Secrecy of a block.")] = 1e-10,
    proof: Annotated[list[str] | None, typer.Option(help=f"Proofs to plan for: {', '.join(PROOFS)}.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Best intensities, probabilities, block size and expected key rate for a measured loss and background."""
    names = tuple(proof) if proof else RECOMMENDED
    try:
        channel = Channel(
            transmittance=10 ** (-loss_db / 10),
            background_hz=background_hz,
            misalignment=misalignment,
            pulse_rate_hz=pulse_rate_hz,
            gate_ns=gate_ns,
            dead_time_ns=dead_time_ns,
            receiver_key_basis_probability=receiver_basis or None,
        )
        constraints = _constraints(seconds, efficiency, epsilon_secrecy, names)
    except ValueError as error:
        fail(error)
    with _Steps(disable=as_json) as steps:
        found = best_settings(channel, constraints, proofs=names, progress=steps.step)
        needed_s = None
        if not found[0].length.bits:
            needed_s = seconds_to_a_key(channel, constraints, proof=found[0].proof, progress=steps.step)
    present = _present_settings(channel, constraints, names)
    if as_json:
        print(json.dumps(_document(channel, constraints, found, present, needed_s)))
    else:
        _show(Console(), found, present, needed_s)


def _constraints(seconds: float, efficiency: float, secrecy: float, names: tuple[str, ...]) -> Constraints:
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        raise ValueError(f"there is no proof {unknown[0]}; there are {', '.join(PROOFS)}")
    if not 0.01 <= seconds <= _DAY_S or efficiency < 1 or not 0 < secrecy < 1e-3:
        raise ValueError("a block takes 0.01 s to a day, an efficiency is at least 1 and a secrecy below 0.001")
    return Constraints(seconds=seconds, efficiency=efficiency, epsilon=EpsilonBudget(secrecy=secrecy))


def _present_settings(channel: Channel, constraints: Constraints, names: tuple[str, ...]) -> Advice | None:
    """What the settings a link has when nothing is configured would give under the first proof they suit."""
    source = SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3))
    suited = [name for name in names if not PROOFS[name].needs_key_basis_errors]
    return evaluate(channel, constraints, suited[0], source, 0.7, 120_000) if suited else None


class _Steps:
    """Progress of the search, one bar a proof; silent where nobody watches."""

    def __init__(self, *, disable: bool) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=disable or not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Steps":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done)


def _document(
    channel: Channel, constraints: Constraints, found: list[Advice], present: Advice | None, needed_s: float | None
) -> dict[str, Any]:
    return {
        "expected": True,
        "channel": asdict(channel),
        "constraints": asdict(constraints),
        "advice": [{**asdict(one), "limit": one.limit} for one in found],
        "default_settings": None if present is None else {**asdict(present), "limit": present.limit},
        "seconds_to_a_key": needed_s,
    }


def _show(console: Console, found: list[Advice], present: Advice | None, needed_s: float | None) -> None:
    columns = [(one.proof.replace("-", "\n"), one) for one in found]
    if present is not None:
        columns.append((f"{present.proof}\ndefault settings".replace("-", " "), present))
    table = Table(title="Expected on a modelled channel, not measured", box=SIMPLE_HEAD)
    table.add_column("")
    for heading, one in columns:
        table.add_column(heading, justify="right", style="dim" if one is present else None)
    cells = [_cells(one) for _, one in columns]
    for row in cells[0]:
        table.add_row(row, *(column[row] for column in cells))
    console.print(table)
    best = found[0]
    console.print(best.limit)
    shares = [_share(one.what, one.share) for one in best.shares]
    if best.length.bits:
        shares.append(_share("key", best.length.bits / best.block_bits))
    console.print(f"Of the sifted bits: {', '.join(shares)}.")
    if best.length.bits:
        console.print("For the [protocol] section of both ends:", _section(best), sep="\n", markup=False)
    elif needed_s is None:
        console.print("No block that fills within a day gives a key on this channel.")
    else:
        console.print(f"Blocks that fill for {needed_s:.0f} s would give some.")


def _share(what: str, share: float) -> str:
    return f"{what[0].lower()}{what[1:]} {100 * share:.0f} %"


def _cells(one: Advice) -> dict[str, str]:
    used = 2 if one.source.one_decoy else 3
    return {
        "mean photons": " ".join(f"{mu:g}" for mu in one.source.intensities[:used]),
        "how often sent": " ".join(f"{p:g}" for p in one.source.probabilities[:used]),
        "key basis sent": f"{one.key_basis_probability:g}",
        "block, sifted bits": f"{one.block_bits:,}",
        "fills in": f"{one.block_seconds:.1f} s",
        "QBER, key basis": f"{100 * one.qber_x:.2f} %",
        "QBER, test basis": f"{100 * one.qber_z:.2f} %",
        "phase error below": f"{100 * one.length.phase_error:.1f} %",
        "secret bits a block": f"{one.length.bits:,}",
        "secret bits a second": f"{one.key_rate_bps:,.0f}",
    }


def _section(one: Advice) -> str:
    return "\n".join(
        (
            f"    intensities = {list(one.source.intensities)}",
            f"    intensity_probabilities = {list(one.source.probabilities)}",
            f"    key_basis_probability = {one.key_basis_probability}",
            f"    block_bits = {one.block_bits}",
            f'    proof = "{one.proof}"',
        )
    )
