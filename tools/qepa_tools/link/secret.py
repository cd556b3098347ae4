"""`qepa link secret`: the initial secret of a link, carried from one end to the other or agreed on by key exchange.

Public files (offer, answer, public key) may travel any way. The secret itself is a file of mode 0600 that is never
overwritten: a link whose secret is lost needs a new one at both ends, and new key stores.
"""

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from qepa_qkd.authentication import SECRET_BYTES, InitialSecret
from qepa_qkd.config import LinkConfig, Role, load
from qepa_qkd.errors import ConfigError, QkdError
from qepa_qkd.identity import fingerprint, open_signing_key, public_pem, read_public
from qepa_qkd.pqc_secret import Offer, answer_offer, make_offer, take_answer
from qepa_qkd.store_database import read_secret_file, write_secret_file

from ..command_line import JsonOption, fail
from ..errors import ToolError

app = typer.Typer(no_args_is_help=True, help="The initial secret of a link: carried, or by key exchange.")

ConfigOption = Annotated[Path, typer.Option("--config", help="Configuration of this end.")]
PeerOption = Annotated[Path, typer.Option("--peer", help="The other end's public key, from `secret identity` there.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")]

_LARGEST_MESSAGE: Final = 16384


@app.command("courier")
def courier(
    file: Annotated[Path, typer.Argument(help="Where the secret goes, on a stick with a file system that has modes.")],
    *,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a secret to carry to both ends; `secret install` takes it in at each."""
    with _result(as_json=as_json, dry_run=dry_run) as said:
        _write_private(file, secrets.token_bytes(SECRET_BYTES), dry_run=dry_run)
        said |= {"secret": str(file), "bytes": SECRET_BYTES, "origin": "courier"}
        said["next"] = "install it at both ends, the second time with --erase"


@app.command("install")
def install(
    file: Annotated[Path, typer.Argument(help="What `secret courier` made.")],
    *,
    config: ConfigOption,
    erase: Annotated[bool, typer.Option("--erase", help="Overwrite and remove FILE: it is the second end.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a carried secret in at this end."""
    with _result(as_json=as_json, dry_run=dry_run) as said:
        end = _end(config)
        _check_origin(end, config, "courier")
        data = read_secret_file(file, "Secret")
        InitialSecret.parse(data)
        _write_private(end.initial_secret, data, dry_run=dry_run)
        if erase and not dry_run:
            _erase(file)
        said |= {"secret": str(end.initial_secret), "origin": "courier", "erased": erase}
        said["next"] = "start this end"
        if erase:
            said["next"] += "; flash memory may keep what was overwritten: keep the stick, or destroy it"


@app.command("identity")
def identity(
    file: Annotated[Path, typer.Argument(help="Where the public key goes.")],
    *,
    config: ConfigOption,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write this end's public key, for the other end; its signing key is made if there is none yet."""
    with _result(as_json=as_json, dry_run=dry_run) as said:
        path = _end(config).store.signing_key
        _check_absent(file)
        if path.exists() or not dry_run:
            key = open_signing_key(path).public_key()
            _write_public(file, public_pem(key), dry_run=dry_run)
            said["fingerprint"] = fingerprint(key)
        said |= {"public_key": str(file), "next": "bring it to the other end and compare the fingerprint by voice"}


@app.command("offer")
def offer(
    message: Annotated[Path, typer.Argument(help="Where the offer goes, for Alice.")],
    *,
    config: ConfigOption,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """At Bob's end: begin a key exchange (X25519 and ML-KEM-768, signed with ML-DSA-65)."""
    with _result(as_json=as_json, dry_run=dry_run) as said:
        end = _end(config, "bob")
        _check_origin(end, config, "pqc")
        _check_absent(end.initial_secret)
        _check_absent(message)
        kept = _kept_offer(end)
        if kept.exists():
            raise ToolError(f"an offer waits for its answer already; remove {kept} to give it up")
        if not dry_run:
            made = make_offer(end.link, open_signing_key(end.store.signing_key))
            _write_private(kept, made.private_bytes(), dry_run=False)
            _write_public(message, made.message, dry_run=False)
        said |= {"offer": str(message), "link": end.link, "next": "bring it to Alice: qepa link secret answer"}


@app.command("answer")
def answer(
    offer_file: Annotated[Path, typer.Argument(metavar="OFFER", help="From Bob's end.")],
    message: Annotated[Path, typer.Argument(metavar="ANSWER", help="Where the answer goes, for Bob.")],
    *,
    config: ConfigOption,
    peer: PeerOption,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """At Alice's end: check Bob's offer, answer it, keep the secret."""
    with _result(as_json=as_json, dry_run=dry_run) as said:
        end = _end(config, "alice")
        _check_origin(end, config, "pqc")
        _check_absent(message)
        _check_absent(end.initial_secret)
        bob = read_public(peer)
        signing_key = end.store.signing_key
        if dry_run and not signing_key.exists():
            raise ToolError(f"there is no signing key {signing_key} yet; `qepa link secret identity` makes it")
        said_to_bob, secret = answer_offer(_message(offer_file), end.link, open_signing_key(signing_key), bob)
        _write_private(end.initial_secret, secret, dry_run=dry_run)
        try:
            _write_public(message, said_to_bob, dry_run=dry_run)
        except ToolError:
            end.initial_secret.unlink()  # nobody else can ever have it
            raise
        said |= {"secret": str(end.initial_secret), "answer": str(message), "link": end.link, "origin": "pqc"}
        said |= {"peer_fingerprint": fingerprint(bob), "next": "bring the answer to Bob: qepa link secret accept"}


@app.command("accept")
def accept(
    message: Annotated[Path, typer.Argument(metavar="ANSWER", help="From Alice's end.")],
    *,
    config: ConfigOption,
    peer: PeerOption,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """At Bob's end: check Alice's answer to the offer that waits, keep the secret."""
    with _result(as_json=as_json, dry_run=dry_run) as said:
        end = _end(config, "bob")
        _check_origin(end, config, "pqc")
        _check_absent(end.initial_secret)
        kept = _kept_offer(end)
        if not kept.exists():
            raise ToolError("no offer waits for an answer here; `qepa link secret offer` makes one")
        alice = read_public(peer)
        offered = Offer.from_private_bytes(read_secret_file(kept, "Kept offer"))
        secret = take_answer(offered, _message(message), end.link, alice)
        _write_private(end.initial_secret, secret, dry_run=dry_run)
        if not dry_run:
            _erase(kept)
        said |= {"secret": str(end.initial_secret), "link": end.link, "origin": "pqc"}
        said |= {"peer_fingerprint": fingerprint(alice), "next": "start both ends"}


@contextmanager
def _result(*, as_json: bool, dry_run: bool) -> Iterator[dict[str, Any]]:
    """Show what a command says; what the user can mend is one sentence and status 2."""
    said: dict[str, Any] = {}
    try:
        yield said
    except (ToolError, QkdError) as error:
        fail(error)
    if as_json:
        print(json.dumps({"dry_run": dry_run, **said}))
        return
    if dry_run:
        print("Nothing was written; all is in order.")
    for name, value in said.items():
        print(f"{name.replace('_', ' ')}: {value}")


def _end(file: Path, role: Role | None = None) -> LinkConfig:
    """Load the configuration of an end, whichever it is where no role is given. Raises ConfigError."""
    if role is not None:
        return load(file, role)
    with suppress(ConfigError):
        return load(file, "bob")
    return load(file, "alice")


def _check_origin(end: LinkConfig, file: Path, origin: str) -> None:
    if end.authentication_origin != origin:
        raise ToolError(f'{file} says authentication_origin = "{end.authentication_origin}"; make it "{origin}" first')


def _kept_offer(end: LinkConfig) -> Path:
    return end.initial_secret.with_name(end.initial_secret.name + ".offer")


def _check_absent(path: Path) -> None:
    if path.exists():
        raise ToolError(f"{path} exists already; nothing is overwritten")


def _write_private(path: Path, data: bytes, *, dry_run: bool) -> None:
    """Write a file that only its owner reads, or refuse. Raises ToolError."""
    _check_absent(path)
    if dry_run:
        if not os.access(next(parent for parent in path.absolute().parents if parent.exists()), os.W_OK):
            raise ToolError(f"{path} cannot be written")
        return
    try:
        write_secret_file(path, data)
    except OSError as error:
        raise ToolError(f"{path} cannot be written: {error.strerror}") from None
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        _erase(path)
        raise ToolError(f"the file system of {path} cannot keep a file from other users; use one that has modes (ext4)")


def _write_public(path: Path, data: bytes, *, dry_run: bool) -> None:
    if dry_run:
        return
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise ToolError(f"{path} cannot be written: {error.strerror}") from None


def _message(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_MESSAGE)
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}") from None


def _erase(path: Path) -> None:
    """Overwrite and remove. Raises ToolError."""
    try:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except OSError as error:
        raise ToolError(f"{path} cannot be erased: {error.strerror}; destroy it by hand") from None
