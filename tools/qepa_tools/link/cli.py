"""The `qepa link` commands."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from qepa_qkd.errors import ConfigError, QkdError

from ..command_line import JsonOption, fail, show_table
from ..errors import ToolError
from .advise import advise
from .secret import app as secret_app

if TYPE_CHECKING:
    from qepa_qkd.drivers.kinds import Kind

    from .folder import Ports

app = typer.Typer(no_args_is_help=True, help="The optical QKD link.")
app.command("advise")(advise)
app.add_typer(secret_app, name="secret")

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the link; made if it is not there.")]
TransmitterOption = Annotated[str | None, typer.Option("--transmitter", help="Serial port; none: the virtual bench.")]
ReceiverOption = Annotated[str | None, typer.Option("--receiver", help="Serial port; none: the virtual bench.")]
BenchOption = Annotated[
    list[str] | None,
    typer.Option("--bench", help="NAME=VALUE, a setting of the virtual bench (`qepa link virtual --help`)."),
]
_INTERRUPTED = 130


class ReceiverDevice(StrEnum):
    """As `[receiver] device` in Bob's configuration."""

    CONTROLLER = "controller"
    TDC1 = "tdc1"


@app.command(
    "virtual",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def virtual(context: typer.Context) -> None:
    """Run the virtual optical bench, attack it, record it, replay it; it prints where its serial ports are."""
    from qepa_tools.bench.__main__ import main  # noqa: PLC0415  # commands load only what they need

    raise typer.Exit(main(context.args))


@app.command("run")
def run(
    folder: FolderArgument = Path("qepa-link"),
    *,
    transmitter: TransmitterOption = None,
    receiver: ReceiverOption = None,
    bench: BenchOption = None,
    seconds: Annotated[float, typer.Option(help="End after so many; 0 runs until Ctrl-C.")] = 0.0,
    blocks: Annotated[int, typer.Option(help="End after so many blocks with key; 0 runs until Ctrl-C.")] = 0,
    plots: Annotated[Path | None, typer.Option(help="Where plots go (default: FOLDER/plots).")] = None,
    record: Annotated[Path | None, typer.Option(help="Record both serial lines of the virtual bench.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make keys and watch: QBER of both bases, rates, stock, alarms. Plots are saved at the end."""
    from .run import Ending, Watch, save_plots  # noqa: PLC0415
    from .session import run_until_signal  # noqa: PLC0415
    from .summary import summary  # noqa: PLC0415

    with _one_sentence():
        opened = _opened(folder, _ports(transmitter, receiver))
        if (bench or record) and not opened.virtual:
            raise ToolError(
                "--bench and --record are the virtual bench's; qepa link virtual --relay records a real one"
            )
        options = _bench_options(bench) + (["--record", str(record.absolute())] if record else [])
        watch = Watch(Console(stderr=as_json), live=not as_json)
        run_until_signal(watch.run(opened, options, Ending(seconds, blocks)))
        with Console(stderr=True).status("drawing plots ..."):
            files = save_plots(opened, plots or opened.path / "plots")
    if as_json:
        print(json.dumps({**summary(watch.last), "plots": [str(file) for file in files]}))
    elif files:
        print(f"Plots are in {files[0].parent}; a page: qepa link report {folder}")


@app.command("align")
def align(
    *,
    transmitter: TransmitterOption = None,
    receiver: ReceiverOption = None,
    bench: BenchOption = None,
    receiver_device: Annotated[
        ReceiverDevice, typer.Option(help="What is on the receiver's port: our controller, or a TDC1.")
    ] = ReceiverDevice.CONTROLLER,
    pulse_rate_hz: Annotated[float, typer.Option(help="Pulses a second.")] = 1e6,
    seconds: Annotated[float, typer.Option(help="End after so many; 0 runs until Ctrl-C.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Count rates and visibility of each detector, several times a second: for turning wave plates."""
    from .align import Alignment  # noqa: PLC0415
    from .session import run_until_signal  # noqa: PLC0415

    with _one_sentence(), tempfile.TemporaryDirectory(prefix="qepa-align-") as scratch:
        kind: Kind = "tdc1" if receiver_device is ReceiverDevice.TDC1 else "qepa"
        alignment = Alignment(Console(stderr=as_json), live=not as_json, receiver=kind)
        ports = _ports(transmitter, receiver)
        run_until_signal(alignment.run(ports, Path(scratch), _bench_options(bench), pulse_rate_hz, seconds))
    if as_json:
        print(json.dumps(alignment.document()))


@app.command("replay")
def replay(
    recording: Annotated[Path, typer.Argument(help="What `qepa link virtual --record FILE` or a bench recorded.")],
    *,
    speed: Annotated[
        float, typer.Option(help="Times that of then, whether the ends keep up or not; 0: as fast as they do.")
    ] = 0.0,
    block_bits: Annotated[int, typer.Option(help="Sifted bits of a block.")] = 120_000,
    report: Annotated[Path | None, typer.Option("--report", help="Also write the page of `qepa link report`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a recording through the whole post-processing again. The keys are nobody's secret and are destroyed."""
    from .replay import Replay  # noqa: PLC0415
    from .session import run_until_signal  # noqa: PLC0415
    from .summary import summary  # noqa: PLC0415

    with _one_sentence(), tempfile.TemporaryDirectory(prefix="qepa-replay-") as scratch:
        replaying = Replay(Console(stderr=as_json), live=not as_json)
        ending = run_until_signal(replaying.run(recording, Path(scratch), speed, block_bits))
        if ending is None:
            raise typer.Exit(_INTERRUPTED)
        if report is not None:
            _write_report(replaying.folder.configs["alice"], report, as_json=as_json)
    if as_json:
        print(json.dumps({"replay": recording.name, "ending": ending, **summary(replaying.watch.last)}))
    else:
        print(f"{ending}. Keys of a replay are no secret; they are destroyed.")
    if replaying.watch.last is None or not replaying.watch.last.blocks:
        print(f"qepa: not one block of {block_bits:,} sifted bits came together{_why(speed)}.", file=sys.stderr)
        raise typer.Exit(1)


@app.command("attack")
def attack(
    attacker: Annotated[str, typer.Argument(help="As in 'intercept-resend fraction=0.3'; `all` shows each in turn.")],
    *,
    bench: BenchOption = None,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks to watch before and during the attack.")] = 2,
    block_bits: Annotated[int, typer.Option(min=20_000, help="Sifted bits of a block.")] = 120_000,
    as_json: JsonOption = False,
) -> None:
    """Put an attacker into the virtual bench and show what the link does.

    Ends with 0 if no attack went unnoticed, 1 if one did.
    """
    from .attack import Demonstration, chosen, verdict_table  # noqa: PLC0415
    from .session import run_until_signal  # noqa: PLC0415

    verdicts = []
    with _one_sentence():
        console = Console(stderr=as_json)
        for choice in chosen(attacker):
            with tempfile.TemporaryDirectory(prefix="qepa-attack-") as scratch:
                demonstration = Demonstration(console, live=not as_json, blocks=blocks, block_bits=block_bits)
                verdict = run_until_signal(demonstration.run(choice, Path(scratch), _bench_options(bench)))
            if verdict is None:
                raise typer.Exit(_INTERRUPTED)
            verdicts.append(verdict)
    if as_json:
        print(json.dumps({"simulated": True, "attacks": [asdict(verdict) for verdict in verdicts]}))
    else:
        show_table(verdict_table(verdicts))
    raise typer.Exit(any(verdict.outcome == "unnoticed" for verdict in verdicts))


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of `qepa link run`, or the configuration file of one end.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("link-report.html"),
    as_json: JsonOption = False,
) -> None:
    """Write a page with plots: error and key rates over time, against loss, finite-key curve, passports verified."""
    with _one_sentence():
        config = _end_config(folder / "alice.toml" if folder.is_dir() else folder)
        numbers = _write_report(config, output, as_json=as_json)
    if as_json:
        print(json.dumps({**numbers, "page": str(output)}))
    else:
        rejected = len(numbers["passports_rejected"])
        print(f"{output}: {numbers['blocks']:,} blocks, {numbers['passports_verified']:,} passports verified.")
        if rejected:
            print(f"{rejected:,} passports do not hold.")
    raise typer.Exit(bool(numbers["passports_rejected"]))


def _why(speed: float) -> str:
    return ": try a smaller --block-bits" if not speed else ": try --speed 0, or a smaller --block-bits"


def _write_report(config: Any, output: Path, *, as_json: bool) -> dict[str, Any]:
    from ..board.screen import Screen  # noqa: PLC0415

    with Screen(as_json=as_json) as screen:
        screen.step("reading", 0, 1)
        from .archive import read_archive  # noqa: PLC0415  # what draws takes seconds to load
        from .report import document, facts_of, page  # noqa: PLC0415

        screen.step("reading", 1, 1)
        archive = read_archive(config, screen.step)
        screen.step("drawing", 0, 1)
        facts = facts_of(archive)
        text = page(facts)
        screen.step("drawing", 1, 1)
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise ToolError(f"{output} cannot be written: {error.strerror}") from None
    return document(facts)


def _end_config(file: Path) -> Any:
    """Load the configuration of whichever end it is. Raises ConfigError."""
    from qepa_qkd.config import load  # noqa: PLC0415

    try:
        return load(file, "alice")
    except ConfigError as error:
        with suppress(ConfigError):
            return load(file, "bob")
        raise error


def _opened(folder: Path, ports: "Ports") -> Any:
    from .folder import open_folder  # noqa: PLC0415

    return open_folder(folder, ports)


def _ports(transmitter: str | None, receiver: str | None) -> "Ports":
    from .folder import Ports  # noqa: PLC0415

    return Ports(transmitter, receiver)


def _bench_options(settings: list[str] | None) -> list[str]:
    """Turn NAME=VALUE into options of the bench. Raises ToolError on an unknown name."""
    from qepa_tools.bench.settings import parse_setting  # noqa: PLC0415

    options = []
    for setting in settings or []:
        name, _, value = setting.partition("=")
        try:
            parse_setting(name, value)
        except ValueError as error:
            raise ToolError(str(error)) from None
        options.append(f"--{name.replace('_', '-')}={value}")
    return options


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn what the user can mend into one sentence and status 2."""
    try:
        yield
    except (ToolError, QkdError) as error:
        fail(error)
