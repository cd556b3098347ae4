"""`qepa link report`: one page that holds everything in itself, figures beside the numbers they were drawn from."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from math import log2
from statistics import mean, median
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qepa_qkd import __version__
from qepa_qkd.advice import Constraints
from qepa_qkd.decoy import EpsilonBudget, SourceSettings
from qepa_qkd.finite_key import CurvePoint, against_block_size, against_loss
from qepa_qkd.passport_proof import compare_proofs

from . import plots
from .archive import Archive
from .estimate import SeenChannel, seen_channel

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 820px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p, figcaption { color: #444; margin: .3rem 0; } figure { margin: 0; } svg { width: 100%; height: auto; }
.simulated { background: #fff3cd; border-left: 4px solid #e69f00; padding: .4rem .8rem; color: #1a1a1a; }
.bad { background: #fde2d5; border-left: 4px solid #d55e00; padding: .4rem .8rem; color: #1a1a1a; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: .8rem; }
dt { color: #666; font-size: .85rem; } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; } th { color: #666; font-weight: 500; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says in numbers."""

    archive: Archive
    seen: SeenChannel | None
    measured: list[tuple[float, float]]
    """Loss in dB and key rate in bit/s of each block with a passport."""
    efficiency: float


def facts_of(archive: Archive) -> Facts:
    """Put passports and history together."""
    protocol = archive.config.protocol
    channels, measured = [], []
    for place, seconds in archive.fill_seconds().items():
        passport = archive.passports[place]
        found = seen_channel(passport, seconds, protocol)
        if found is not None:
            channels.append(found)
            measured.append((found.loss_db, passport["bounds"]["bits"] / seconds))
    channels.sort(key=lambda one: one.loss_db)
    seen = channels[len(channels) // 2] if channels else None
    efficiencies = [_efficiency(passport) for passport in archive.passports[-20:]]
    return Facts(archive, seen, measured, mean(efficiencies) if efficiencies else 1.05)


def document(facts: Facts) -> dict[str, Any]:
    """Return the page's numbers as a JSON object."""
    archive = facts.archive
    reasons = Counter(block.reason for block in archive.blocks if block.reason)
    keys = [block.qber_key for block in archive.blocks if block.qber_key is not None]
    return {
        "simulated": archive.simulated,
        "link": archive.config.link,
        "proof": archive.config.protocol.proof,
        "blocks": len(archive.blocks),
        "blocks_without_key": sum(reasons.values()),
        "reasons": dict(reasons),
        "key_bits": sum(block.key_bits for block in archive.blocks),
        "median_qber_key_basis": median(keys) if keys else None,
        "median_key_rate_bps": median(rate for _, rate in facts.measured) if facts.measured else None,
        "median_loss_db": facts.seen.loss_db if facts.seen else None,
        "correction_efficiency": facts.efficiency if archive.passports else None,
        "passports_verified": len(archive.passports),
        "passports_rejected": archive.rejected,
        "passports_left_out": archive.left_out,
    }


def page(facts: Facts) -> str:
    """Return the page."""
    archive, numbers = facts.archive, document(facts)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        f"<h1>Optical link {escape(archive.config.link)}</h1>",
        f"<p>qepa {escape(__version__)}, {made}. Proof: {escape(archive.config.protocol.proof)}.</p>",
    ]
    if archive.simulated:
        parts.append(
            '<p class="simulated">Simulated: these figures come from a virtual optical bench, or from a recording '
            "behind a pseudo-terminal. They show the software, not optics.</p>"
        )
    if archive.rejected:
        rows = "<br>".join(escape(why) for why in archive.rejected[:20])
        parts.append(f'<p class="bad">Passports that do not hold: {rows}</p>')
    parts.append(_numbers(numbers))
    if archive.blocks:
        parts += _over_time(archive)
    parts += _expected(facts)
    if archive.passports:
        parts += _passports(archive)
    if numbers["reasons"]:
        reasons = [[why, f"{count:,}"] for why, count in Counter(numbers["reasons"]).most_common(12)]
        parts += ["<h2>Why blocks ended without key</h2>", _table(["reason", "blocks"], reasons)]
    body = "\n".join(parts)
    return _PAGE.format(title=f"Optical link {escape(archive.config.link)}", style=_STYLE, body=body)


def _numbers(numbers: dict[str, Any]) -> str:
    def shown(value: float | None, pattern: str) -> str:
        return "--" if value is None else pattern.format(value)

    qber = numbers["median_qber_key_basis"]
    cells = [
        ("blocks", f"{numbers['blocks']:,}"),
        ("without key", f"{numbers['blocks_without_key']:,}"),
        ("secret key made", f"{numbers['key_bits'] / 1e3:,.1f} kbit"),
        ("QBER, key basis (median)", shown(None if qber is None else 100 * qber, "{:.2f} %")),
        ("key rate of a block (median)", shown(numbers["median_key_rate_bps"], "{:,.0f} bit/s")),
        ("loss, estimated (median)", shown(numbers["median_loss_db"], "{:.1f} dB")),
        ("error correction, leak / n h(Q)", shown(numbers["correction_efficiency"], "{:.3f}")),
        ("passports verified", f"{numbers['passports_verified']:,}"),
        ("passports rejected", f"{len(numbers['passports_rejected']):,}"),
    ]
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cells) + "</dl>"


def _over_time(archive: Archive) -> list[str]:
    blocks, protocol = archive.blocks, archive.config.protocol
    return [
        "<h2>Error rate over time</h2>",
        _figure(
            plots.error_rates(blocks, protocol.qber_threshold),
            "The key basis is compared in full after correction, the test basis openly. A cross is a block that "
            "ended without key.",
        ),
        "<h2>Key rate over time</h2>",
        _figure(
            plots.key_rate(blocks, archive.longest_fill_s),
            "Secret bits of a block over the seconds since the block before; pauses are left out.",
        ),
    ]


def _expected(facts: Facts) -> list[str]:
    if facts.seen is None:
        return []
    archive, protocol, channel = facts.archive, facts.archive.config.protocol, facts.seen.channel
    source = SourceSettings(protocol.intensities, protocol.intensity_probabilities)
    proofs = [protocol.proof]
    epsilon = EpsilonBudget(protocol.epsilon_correctness, protocol.epsilon_secrecy)
    constraints = Constraints(efficiency=facts.efficiency, epsilon=epsilon)
    losses = np.arange(0.0, max(25.0, facts.seen.loss_db + 15), 0.5).tolist()
    loss_curves = [
        point
        for size in (protocol.block_bits, 10 * protocol.block_bits)
        for point in _named(
            against_loss(
                channel,
                source,
                protocol.key_basis_probability,
                losses,
                block_bits=size,
                proofs=proofs,
                constraints=constraints,
            ),
            f"{size:,} bits a block",
        )
    ]
    sizes = [round(10**power) for power in np.arange(3.5, 7.51, 0.1)]
    size_curves = against_block_size(
        channel,
        source,
        protocol.key_basis_probability,
        sizes,
        proofs=proofs,
        constraints=constraints,
    )
    kept = [(float(sum(p["counts"]["n_x"])), _per_sifted_bit(p)) for p in archive.passports]
    how = (
        f"Expected of the channel as its passports show it: loss {facts.seen.loss_db:.1f} dB, background "
        f"with afterpulses {channel.background_hz:,.0f} per second in {channel.gate_ns:.0f} ns gates, misalignment "
        f"{100 * channel.misalignment:.2f} %, correction at {facts.efficiency:.3f}. Points are blocks."
    )
    return [
        "<h2>Key rate against loss</h2>",
        _figure(plots.against_loss(loss_curves, facts.measured, simulated=archive.simulated), how),
        "<h2>Finite-key curve</h2>",
        _figure(
            plots.finite_key(size_curves, kept, simulated=archive.simulated),
            "Small blocks pay more for certainty: below some size there is no key at all.",
        ),
    ]


def _passports(archive: Archive) -> list[str]:
    newest = archive.passports[-1]
    rows = []
    for row in compare_proofs(newest):
        bits = "--" if row.length is None else f"{row.length.bits:,}"
        used = " (used)" if row.proof == newest["proof"] else ""
        rows.append([row.proof + used, bits, f"{row.bits_per_sifted_bit:.3f}", row.reason or ""])
    head = ["proof", "secret bits", "per sifted bit", "why none"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    left = f" {archive.left_out:,} older ones are left out." if archive.left_out else ""
    secrecy, correctness = newest["epsilon"]["secrecy"], newest["epsilon"]["correctness"]
    return [
        "<h2>Key passports</h2>",
        f"<p>{len(archive.passports):,} passports carry this end's ML-DSA-65 signature, and their counts give the "
        f"stated length again.{left} Each block may fail to be secret with probability {secrecy:g} at most, to be "
        f"the same at both ends with {correctness:g}.</p>",
        _figure(plots.where_bits_go(newest), "Where the sifted bits of the newest block went."),
        "<p>The newest block's counts under every proof (only the one chosen beforehand counts):</p>",
        _table(head, rows),
    ]


def _figure(figure: Figure, caption: str) -> str:
    return f"<figure>{plots.svg(figure)}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def _named(points: Iterable[CurvePoint], name: str) -> list[CurvePoint]:
    return [replace(point, proof=name) for point in points]


def _per_sifted_bit(passport: dict[str, Any]) -> float:
    return float(passport["bounds"]["bits"] / sum(passport["counts"]["n_x"]))


def _efficiency(passport: dict[str, Any]) -> float:
    """Leak over n h(Q); 1.05 where there was no error to correct."""
    q = passport["qber_x"]
    if not 0 < q < 1:
        return 1.05
    entropy = -q * log2(q) - (1 - q) * log2(1 - q)
    return float(max(1.0, passport["leak_bits"] / (sum(passport["counts"]["n_x"]) * entropy)))
