"""Model cards, made from what was measured or counted, as JSON and as a page to read.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019: what it is, where it came from, what was measured
on whom, and what it must not be taken for. What nobody can know stands there as unknown.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from qepa_wire.model import Model
from qepa_wire.primitives import sha256

from .versions import FEDERATED, INITIAL, PUSHED, ROLLBACK, SHIPPED, Card, Version

_LAST_MS = 253_402_300_800_000  # the year 10000
UNSEEN = (
    "Nobody's data was seen here, only sums over cells of patients. How often this version is right on these patients, "
    "on which of them it is wrong, and what beats they had, is not known and cannot be had from the sums."
)
UNTRAINED = "It has learned nothing yet: its answers mean nothing."
DECLARED = "As declared in the file that was pushed and signed for; measured where it was trained, not here."
SHIPPED_NOTE = "Measured where it was trained, on other people than this ward's."
_WHERE = {
    INITIAL: "start of this ward, untrained",
    SHIPPED: "shipped with the package",
    FEDERATED: "trained in this ward, from sums",
    PUSHED: "pushed by a person",
    ROLLBACK: "an earlier version again",
}


def board_card(version: Version, model: Model, facts: Card, model_root: bytes, signer: str) -> dict[str, Any]:
    """Card of a board's model. ``facts``: of the federated round, or the card of the file that it came from."""
    layer = f"one hidden layer of {model.hidden} units" if model.hidden else "softmax regression"
    shape = {
        "kind": layer,
        "features": model.features,
        "classes": model.classes,
        "words": len(model.words),
        "fraction_bits": model.fraction_bits,
    }
    signed = {"for boards": f"HSS (RFC 8554), key {sha256(model_root).hex()[:16]}", "for gateways": _signed_by(signer)}
    return {**_head(version), "model": shape, "signed": signed, **_body(version, facts)}


def bedside_card(version: Version, facts: Card, signer: str) -> dict[str, Any]:
    """Card of a gateway's model, with what the gateways' shelves check: name, version, sha256."""
    size = {"kind": "TFLite, int8", "bytes": len(version.blob)}
    sha = {"sha256": version.digest.hex()}
    return {
        **_head(version),
        **sha,
        "model": size,
        "signed": {"for gateways": _signed_by(signer)},
        **_body(version, facts),
    }


def _head(version: Version) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "origin": version.origin,
        "where_from": _WHERE[version.origin],
        "parent": version.parent or None,
        "digest": version.digest.hex(),
        "made_ms": version.created_ms,
        **({"by": version.by} if version.by else {}),
        **({"reason": version.reason} if version.reason else {}),
    }


def _signed_by(signer: str) -> str:
    return f"ML-DSA-65, {signer}"


def _body(version: Version, facts: Card) -> dict[str, Any]:
    if version.origin == FEDERATED:
        return {"training": dict(facts), "limits": UNSEEN}
    if version.origin == INITIAL:
        return {"limits": UNTRAINED}
    if version.origin == ROLLBACK:
        # The facts of the version gone back to stay true of its words.
        return {name: facts[name] for name in ("again", "measured", "declared", "training", "limits") if name in facts}
    note = DECLARED if version.origin == PUSHED else SHIPPED_NOTE
    measured = {name: value for name, value in facts.items() if name not in ("name", "version", "sha256", "limits")}
    return {
        "declared": note,
        "measured": measured,
        "limits": facts.get("limits", "The file says nothing of its limits."),
    }


def again(card: Card) -> dict[str, Any]:
    """Facts for the card of a version that has the contents of the one with ``card``."""
    return {**card, "again": {"version": card.get("version"), "origin": card.get("origin")}}


def markdown(card: Card) -> str:
    """The card as a page to read."""
    lines = [f"# Model {card.get('name')} version {card.get('version')}", ""]
    plain = {name: value for name, value in card.items() if not isinstance(value, Mapping)}
    for name in ("name", "version", "limits"):
        plain.pop(name, None)
    lines += _table(plain)
    for name, value in card.items():
        if isinstance(value, Mapping):
            lines += ["", f"## {_words(name)}", "", *_section(value)]
    lines += ["", "## Limits", "", str(card.get("limits", "unknown")), ""]
    return "\n".join(lines)


def _section(facts: Card) -> list[str]:
    lines = _table({name: value for name, value in facts.items() if not isinstance(value, Mapping)})
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += ["", f"### {_words(name)}", "", *_section(value)]
    return lines


def _table(facts: Card) -> list[str]:
    if not facts:
        return []
    return ["| | |", "| --- | --- |", *(f"| {_words(name)} | {_dated(name, value)} |" for name, value in facts.items())]


def _dated(name: str, value: Any) -> str:
    if name.endswith("_ms") and isinstance(value, int) and 0 <= value < _LAST_MS:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value / 1000))
    return _shown(value)


def _words(name: str) -> str:
    return str(name).removesuffix("_ms").replace("_", " ").replace("|", "/")


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(_shown(item) for item in value)
    return " ".join(str(value).split()).replace("|", "/")


def as_json(card: Card) -> str:
    """The card as gateways get it and as it is stored."""
    return json.dumps(card, separators=(",", ":"))
