"""The report of an audit: facts as JSON, signed, with a page and plots whose digests the facts hold.

`report.json` is {"facts": ..., "certificate": ..., "signature": ...}; the signature is ML-DSA-65 over the facts as
JSON with sorted keys and without spaces, in UTF-8, under a context of its own.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, Subject, verify_certificate, verify_signature

from ..errors import ToolError
from ..recordings.table import Table
from ..report_page import illustration, page, paragraph, section
from .study import Audit, AuditSettings
from .tables import STAND_IN, goal_lines, tables
from .wards import Size, Source, data_digest

FORMAT = 1
FILE = "report.json"
PAGE = "report.html"
_CONTEXT = b"qepa/1/privacy-audit"


def facts_of(
    audit: Audit, *, source: Source, size: Size, asked: AuditSettings, versions: Mapping[str, str], made_at: str
) -> dict[str, Any]:
    """Return everything that was found and how, as JSON; the digests of files are added as they are written."""
    return {
        "what": "privacy audit",
        "format": FORMAT,
        "made_at": made_at,
        "how": STAND_IN,
        "data": {"source": source.name, "records": source.records, "digest": data_digest(source)},
        "firmware": source.firmware,
        "versions": dict(versions),
        "asked": {**asdict(asked), **asdict(size)},
        "goal": goal_lines(audit),
        **json.loads(json.dumps(asdict(audit))),
    }


def write_report(
    directory: Path,
    facts: dict[str, Any],
    audit: Audit,
    drawn: Mapping[str, tuple[bytes, str]],
    identity: Identity | None,
) -> Path:
    """Write page, plots and report.json into a directory, made if it is not there; returns the report's path."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {name: png for name, (png, _) in drawn.items()}
    files[PAGE] = _page(facts, tables(audit), drawn).encode()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    path = directory / FILE
    path.write_text(json.dumps(sign({**facts, "files": digests}, identity), indent=1) + "\n", encoding="utf-8")
    return path


def sign(facts: dict[str, Any], identity: Identity | None) -> dict[str, Any]:
    """Return the report; without ``identity`` it is unsigned and says so by nulls."""
    if identity is None:
        return {"facts": facts, "certificate": None, "signature": None}
    return {
        "facts": facts,
        "certificate": identity.certificate.model_dump(mode="json"),
        "signature": identity.sign(_message(facts), _CONTEXT).hex(),
    }


def verify_report(path: Path, root_key: bytes) -> tuple[dict[str, Any], Subject]:
    """Return (facts, who signed); ToolError for anything that does not hold, files beside the report among it.

    An expired certificate is accepted: reports are kept for longer.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        facts, certificate, signature = record["facts"], record["certificate"], record["signature"]
        files = {str(name): str(digest) for name, digest in facts["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(f"{path} is no report of a privacy audit ({type(error).__name__}).") from error
    if certificate is None or signature is None:
        raise ToolError(f"{path} is unsigned: anybody could have written it.")
    try:
        held = Certificate.model_validate_json(json.dumps(certificate))
        subject = Subject.model_validate_json(held.body)
        verify_certificate(held, root_key, role=subject.role, now_s=0)
        verify_signature(subject.sign_key, bytes.fromhex(signature), _message(facts), _CONTEXT)
    except UplinkError as error:
        raise ToolError(f"The signature of {path} does not hold: {error}.") from error
    except (ValueError, TypeError) as error:
        raise ToolError(f"{path} has no certificate or signature that can be read.") from error
    for name, digest in files.items():
        _check_file(path.parent, name, digest)
    return facts, subject


def _check_file(directory: Path, name: str, digest: str) -> None:
    if Path(name).name != name:
        raise ToolError(f"The report names a file outside its directory: {name[:80]}.")
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        raise ToolError(f"{directory / name} belongs to the report and can't be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ToolError(f"{directory / name} is not what was signed.")


def _message(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _page(facts: dict[str, Any], shown: Mapping[str, Table], drawn: Mapping[str, tuple[bytes, str]]) -> str:
    about = (
        f"{facts['made_at']}. {STAND_IN} Data: {facts['data']['source']}, {len(facts['data']['records'])} records. "
        f"Seed {facts['asked']['seed']}. All figures, digests and, if it was signed, the signature are in {FILE}."
    )
    parts = [paragraph(text) for text in (about, *facts["goal"])]
    parts += [*map(section, shown.values()), *(illustration(*each) for each in drawn.values())]
    return page("Privacy audit", parts, "What learning tells about one patient")
