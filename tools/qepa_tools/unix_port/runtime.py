"""Where MicroPython's unix port for i386 is, and how it gets there: `python -m qepa_tools.unix_port.runtime`.

Debian 13 ships it as package `micropython`, architecture i386. apt fetches that and its libraries from the mirror this
machine is set up with and checks Debian's signature; the files are unpacked beside the virtual environment and run by
their own dynamic linker, so that nothing is installed and no root is needed. $QEPA_DEBIAN_MIRROR names another mirror.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from ..errors import ToolError

SUITE = "trixie"
MIRROR_VARIABLE = "QEPA_DEBIAN_MIRROR"

_PACKAGES = ("micropython", "libc6", "libgcc-s1", "libffi8", "libmbedcrypto16", "libmbedtls21", "libmbedx509-7")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LINKER = Path("usr/lib/i386-linux-gnu/ld-linux.so.2")
_PROGRAM = Path("usr/bin/micropython")
_APT_TIMEOUT_S = 300


class UnixPortMissingError(ToolError):
    """The port is not here and cannot be had; the message says why and what would help."""


def unix_port_dir() -> Path:
    """Directory that ensure_unix_port fills."""
    return Path(sys.prefix) / "share" / "qepa" / f"micropython-i386-{SUITE}"


@cache
def find_unix_port() -> tuple[str, ...] | None:
    """The command line that starts the interpreter, or None if it is not installed or does not run here."""
    root = unix_port_dir()
    if not (root / _PROGRAM).is_file():
        return None
    command = (str(root / _LINKER), "--library-path", str(root / _LINKER.parent), str(root / _PROGRAM))
    try:
        done = subprocess.run([*command, "-c", "print(6 * 7)"], capture_output=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return command if done.stdout == b"42\n" else None


def ensure_unix_port(progress: Callable[[str], None] = lambda _: None) -> tuple[str, ...]:
    """Install the port unless it is there (then no network is used); returns the command line that starts it.

    ``progress`` gets one sentence a step. Whole or not at all. Raises UnixPortMissingError.
    """
    if (found := find_unix_port()) is not None:
        return found
    if platform.machine() not in ("x86_64", "i686", "i386"):
        raise UnixPortMissingError(f"i386 programs do not run on {platform.machine()}: use an x86-64 machine.")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnixPortMissingError(f"{tool} is missing: the port comes from Debian's archive.")
    if not _KEYRING.is_file():
        raise UnixPortMissingError(f"{_KEYRING} is missing: install the package debian-archive-keyring.")
    progress(f"Fetching MicroPython's unix port for i386 (Debian {SUITE}) ...")
    target = unix_port_dir()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".installing-") as temporary:
        fresh = Path(temporary) / "root"
        _unpack(_download(Path(temporary)), fresh)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    find_unix_port.cache_clear()
    found = find_unix_port()
    if found is None:
        raise UnixPortMissingError("the port was installed but does not run: does this kernel run 32-bit programs?")
    progress("MicroPython's unix port for i386 is installed.")
    return found


def _download(work: Path) -> list[Path]:
    """The packages, fetched by an apt that sees neither this system's state nor its sources."""
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    sources = work / "sources.list"
    sources.write_text(f"deb [arch=i386 signed-by={_KEYRING}] {_mirror()} {SUITE} main\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Architecture": "i386",
        "APT::Architectures": "i386",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    _call([*apt, "update"], work)
    _call([*apt, "download", *_PACKAGES], work / "debs")
    return sorted((work / "debs").glob("*.deb"))


def _unpack(debs: Sequence[Path], root: Path) -> None:
    root.mkdir()
    for deb in debs:
        _call(["dpkg-deb", "-x", str(deb), str(root)], root)
    if not (root / _PROGRAM).is_file():
        raise UnixPortMissingError(f"Debian's package holds no {_PROGRAM}.")


def _mirror() -> str:
    """The Debian mirror this machine uses."""
    if named := os.environ.get(MIRROR_VARIABLE):
        return named
    listed = _call(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)", "Created-By: Packages"], None)
    for line in listed.splitlines():
        origin, _, uri = line.partition("|")
        if origin == "Debian" and "security" not in uri:
            return uri
    raise UnixPortMissingError(f"apt knows no Debian mirror here: name one in ${MIRROR_VARIABLE}.")


def _call(command: list[str], where: Path | None) -> str:
    try:
        done = subprocess.run(  # noqa: S603  fixed programs
            command, cwd=where, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnixPortMissingError(f"{command[0]} failed: {error}.") from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("E:")), done.stderr.strip()[-200:])
        raise UnixPortMissingError(f"{command[0]} failed: {reason}")
    return done.stdout


if __name__ == "__main__":
    try:
        ensure_unix_port(print)
    except UnixPortMissingError as failure:
        print(f"No unix port: {failure} Tests that need it are skipped, or fail where CI=true.", file=sys.stderr)
        sys.exit(os.environ.get("CI") == "true")
