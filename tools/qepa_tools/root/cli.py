"""`qepa root`: the offline root, which says who is gateway, server, dock, consent or release desk."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, Role, Root, Subject

from ..command_line import JsonOption, fail
from ..errors import ToolError

app = typer.Typer(no_args_is_help=True, help="The offline root: certifies gateways, server, dock and desks.")

_DAY_S = 86400
_KEY, _PUBLIC = "root.key", "root.pub"

FolderOption = Annotated[Path, typer.Option("--root", help="Folder of the root; on a machine without a network.")]


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Folder for root.key, a secret, and root.pub, which all pin.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make the root of a hospital. Whoever has root.key can invent gateways: lock it away."""
    try:
        if (folder / _KEY).exists():
            raise ToolError(f"{folder} holds a root already: what it certified would end with it")
        (folder / _PUBLIC).write_bytes(_opened(folder).public_key)
    except OSError as error:
        fail(f"{folder} cannot be written: {error.strerror}")
    except ToolError as error:
        fail(error)
    public = str(folder / _PUBLIC)
    print(json.dumps({"root_key": public}) if as_json else f"{public} is for everybody; {folder / _KEY} is the secret.")


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="Of the party, such as gw-1: small letters, digits, hyphens.")],
    role: Annotated[Role, typer.Argument(help="What it may do.")],
    *,
    folder: FolderOption,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long the certificate holds.")] = 366,
    out: Annotated[Path | None, typer.Option(help="Its keys (default: NAME.json), the certificate beside.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a party's keys and certify them: NAME.json for it alone, NAME.cert.json for everybody."""
    keys = Path(f"{name}.json") if out is None else out
    certificate = keys.with_suffix(".cert.json")
    try:
        if not (folder / _KEY).exists():
            raise ToolError(f"{folder} holds no root: qepa root new {folder}")
        if keys.exists():
            raise ToolError(f"{keys} is there already: counters and consents hang on its keys; choose another --out")
        identity = _opened(folder).issue(name, role, valid_s=days * _DAY_S)
        identity.save(keys)
        certificate.write_text(identity.certificate.model_dump_json())
    except OSError as error:
        fail(f"{keys} cannot be written: {error.strerror}")
    except ValidationError:
        fail(f"{name!r} is no name of a party: small letters, digits and hyphens, at most 32")
    except ToolError as error:
        fail(error)
    if as_json:
        print(json.dumps({"identity": str(keys), "certificate": str(certificate), **_said(identity.subject)}))
    else:
        print(f"{keys} is {name}'s alone, {certificate} is for everybody; valid until {_day(identity.subject)}.")


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A party's keys or certificate.")], *, as_json: JsonOption = False
) -> None:
    """Say whose a file of `qepa root issue` is, and until when; not whether the root signed it."""
    try:
        subject = _subject(file)
    except ToolError as error:
        fail(error)
    if as_json:
        print(json.dumps(_said(subject)))
    else:
        over = " (over)" if time.time() > subject.not_after_s else ""
        print(f"{subject.name}, {subject.role}, valid until {_day(subject)}{over}")


def _opened(folder: Path) -> Root:
    try:
        return Root.open(folder / _KEY)
    except UplinkError as error:
        raise ToolError(str(error)) from error


def _subject(file: Path) -> Subject:
    try:
        text = file.read_text("utf-8")
        try:
            certificate = Certificate.model_validate_json(text)
        except ValidationError:
            return Identity.load(file).subject
        return Subject.model_validate_json(certificate.body)
    except OSError as error:
        raise ToolError(f"{file} cannot be read: {error.strerror}") from error
    except (UplinkError, ValueError) as error:
        raise ToolError(f"{file} holds neither keys nor a certificate of a party") from error


def _said(subject: Subject) -> dict[str, object]:
    return {"name": subject.name, "role": subject.role, "not_after_s": subject.not_after_s}


def _day(subject: Subject) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(subject.not_after_s))
