"""`qepa link report`: one page that holds everything in itself, figures beside the numbers they were drawn from."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qepa_qkd import __version__
from qepa_qkd.advice import Constraints
from qepa_qkd.decoy import EpsilonBudget
from qepa_qkd.finite_key import CurvePoint, against_loss
from qepa_qkd.passport_proof import compare_proofs

from . import plots
from .archive import Archive
from .estimate import Pooled, SeenChannel, pool, seen_channel

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
    pooled: Pooled | None
    """All blocks whose time is known, as one."""
    seen: SeenChannel | None
    measured: list[tuple[float, float]]
    """Loss in dB and key rate in bit/s of each block whose time is known."""


def facts_of(archive: Archive) -> Facts:
    """Put passports and history together."""
    protocol = archive.config.protocol
    timed = [(archive.passports[place], seconds) for place, seconds in archive.fill_seconds().items()]
    measured = []
    for passport, seconds in timed:
        alone = pool([(passport, seconds)])
        found = seen_channel(alone, protocol) if alone else None
        if found is not None:
            measured.append((found.loss_db, passport["bounds"]["bits"] / seconds))
    pooled = pool(timed)
    return Facts(archive, pooled, seen_channel(pooled, protocol) if pooled else None, measured)


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
        "loss_db": facts.seen.loss_db if facts.seen else None,
        "correction_efficiency": facts.pooled.efficiency if facts.pooled else None,
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
        parts += [
            "<h2>Why blocks ended without key</h2>",
            _table(["reason, the newest of its kind", "blocks"], _reasons(archive)),
        ]
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
        ("loss, estimated", shown(numbers["loss_db"], "{:.1f} dB")),
        ("correction, leak / n h(Q)", shown(numbers["correction_efficiency"], "{:.3f}")),
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
    if facts.seen is None or facts.pooled is None:
        return []
    archive, protocol, channel = facts.archive, facts.archive.config.protocol, facts.seen.channel
    epsilon = EpsilonBudget(protocol.epsilon_correctness, protocol.epsilon_secrecy)
    constraints = Constraints(efficiency=facts.pooled.efficiency, epsilon=epsilon)
    losses = np.arange(0.0, max(25.0, facts.seen.loss_db + 15), 0.2).tolist()
    loss_curves = [
        replace(point, proof=f"{size:,} bits a block")
        for size in (protocol.block_bits, 10 * protocol.block_bits)
        for point in against_loss(
            channel,
            facts.pooled.source,
            protocol.key_basis_probability,
            losses,
            block_bits=size,
            proofs=[protocol.proof],
            constraints=constraints,
        )
    ]
    kept = [(float(sum(p["counts"]["n_x"])), _per_sifted_bit(p)) for p in archive.passports]
    how = (
        f"Curves: the channel as the blocks saw it (loss {facts.seen.loss_db:.1f} dB, background with afterpulses "
        f"{channel.background_hz:,.0f} a second in {channel.gate_ns:.0f} ns gates, misalignment "
        f"{100 * channel.misalignment:.2f} %, correction at {constraints.efficiency:.3f}), and with more or less loss."
    )
    return [
        "<h2>Key rate against loss</h2>",
        _figure(plots.against_loss(loss_curves, facts.measured, simulated=archive.simulated), how),
        "<h2>Finite-key curve</h2>",
        _figure(
            plots.finite_key(_finite_key(facts.pooled, protocol.proof, epsilon), kept, simulated=archive.simulated),
            "Curve: all blocks as one, their counts scaled to other sizes. Small blocks pay more for certainty: below "
            "some size there is no key at all.",
        ),
    ]


def _finite_key(pooled: Pooled, proof: str, epsilon: EpsilonBudget) -> list[CurvePoint]:
    points = []
    for power in np.arange(3.5, 7.51, 0.05):
        size = round(10**power)
        per_bit = pooled.scaled(size, proof, epsilon).bits / size
        rate = per_bit * sum(pooled.counts.n_x) / pooled.seconds
        points.append(CurvePoint(proof, float(size), per_bit, rate))
    return points


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
        _figure(
            plots.where_bits_go(newest, simulated=archive.simulated), "Where the sifted bits of the newest block went."
        ),
        "<p>The newest block's counts under every proof (only the one chosen beforehand counts):</p>",
        _table(head, rows),
    ]


def _figure(figure: Figure, caption: str) -> str:
    return f"<figure>{plots.svg(figure)}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def _reasons(archive: Archive) -> list[list[str]]:
    """Reasons and how often, the same but for their numbers taken together."""
    newest: dict[str, str] = {}
    counts = Counter[str]()
    for block in archive.blocks:
        if block.reason:
            kind = re.sub(r"\d+(\.\d+)?", "", block.reason)
            newest[kind] = block.reason
            counts[kind] += 1
    return [[newest[kind], f"{count:,}"] for kind, count in counts.most_common(12)]


def _per_sifted_bit(passport: dict[str, Any]) -> float:
    return float(passport["bounds"]["bits"] / sum(passport["counts"]["n_x"]))
