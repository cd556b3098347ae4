"""`qepa board build`, `sign` and `keygen`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..command_line import JsonOption, fail
from ..errors import ToolError

app = typer.Typer(no_args_is_help=True, help="Firmware bundles: build, sign.")

KeysOption = Annotated[Path, typer.Option("--keys", help="Folder of the firmware signing key.")]


def _say(text: str, record: dict[str, object], as_json: bool) -> None:
    print(json.dumps(record) if as_json else text)


@app.command()
def build(
    *,
    target: Annotated[str, typer.Option(help="esp32, esp32s3, esp32c6, wasm or unix.")],
    version: Annotated[int, typer.Option(min=1, max=0xFFFFFFFF, help="Counts up with every release.")],
    floor: Annotated[
        int | None, typer.Option(min=0, help="Once this one runs, none below is accepted (default: VERSION).")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(help="Sensor set of the boards, from the pin map; repeat it to join sets."),
    ] = None,
    transport: Annotated[list[str] | None, typer.Option(help="mqtt or ble. Both if none.")] = None,
    out: Annotated[Path | None, typer.Option(help="Bundle (default: qepa-TARGET-VERSION.zip).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile the firmware into a bundle, not yet signed."""
    from ..board.pinmap import PinMap  # noqa: PLC0415  commands load only what they need
    from .bundle import MAX_MPY_BYTES, build_bundle  # noqa: PLC0415
    from .parts import TRANSPORTS  # noqa: PLC0415

    path = out if out is not None else Path(f"qepa-{target}-{version}.zip")
    try:
        chips = PinMap.load().chips_of(profile) if profile else None
        bundle = build_bundle(target, version, path, floor=floor, chips=chips, transports=transport or TRANSPORTS)
    except ToolError as error:
        fail(error)
    size = bundle.mpy_bytes
    text = f"{path}: version {version} for {target}, {len(bundle.files)} files, {size:,} of {MAX_MPY_BYTES:,} bytes."
    _say(text, {"bundle": str(path), "files": len(bundle.files), "mpy_bytes": size, "limit": MAX_MPY_BYTES}, as_json)
    if size > MAX_MPY_BYTES:
        print("qepa: that is more than boards have room for: name their --profile and --transport.", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by build.")],
    *,
    keys: KeysOption,
    as_json: JsonOption = False,
) -> None:
    """Sign a bundle in place. Each signature spends a one-time key."""
    from .bundle import read_bundle  # noqa: PLC0415
    from .signing import public_key, sign_bundle  # noqa: PLC0415

    try:
        signed = sign_bundle(read_bundle(bundle), keys)
        signed.write(bundle)
        root = public_key(keys).hex()
    except ToolError as error:
        fail(error)
    _say(f"{bundle} is signed; boards accept it under {root}.", {"bundle": str(bundle), "firmware_root": root}, as_json)


@app.command()
def keygen(*, keys: KeysOption, as_json: JsonOption = False) -> None:
    """Make a firmware signing key; its public part goes into identity.json as firmware_root."""
    from .signing import make_key  # noqa: PLC0415

    try:
        root = make_key(keys).hex()
    except ToolError as error:
        fail(error)
    _say(f"firmware_root {root}", {"firmware_root": root}, as_json)
