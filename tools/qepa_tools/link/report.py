"""`qepa link report`: one page that holds everything in itself, figures beside the numbers they were drawn from."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qepa_qkd import __version__
from qepa_qkd.advice import Constraints
from qepa_qkd.decoy import EpsilonBudget
from qepa_qkd.finite_key import CurvePoint, against_loss
from qepa_qkd.passport_proof import compare_proofs

from .. import report_page
from ..recordings.table import Table
from ..report_page import drawing, fault, figures, heading, paragraph, section
from . import plots
from .archive import Archive
from .estimate import Pooled, SeenChannel, pool, seen_channel


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
    parts = [paragraph(f"qepa {__version__}, {made}. Proof: {archive.config.protocol.proof}.")]
    if archive.simulated:
        parts.append(
            paragraph(
                "Simulated: these figures come from a virtual optical bench, or from a recording behind a "
                "pseudo-terminal. They show the software, not optics.",
                note=True,
            )
        )
    if archive.rejected:
        parts.append(fault("\n".join(["Passports that do not hold:", *archive.rejected[:20]])))
    parts.append(_numbers(numbers))
    if archive.blocks:
        parts += _over_time(archive)
    parts += _expected(facts)
    if archive.passports:
        parts += _passports(archive)
    if numbers["reasons"]:
        columns = ("reason, the newest of its kind", "blocks")
        parts.append(section(Table(title="Why blocks ended without key", columns=columns, rows=_reasons(archive))))
    return report_page.page(f"Optical link {archive.config.link}", parts)


def _numbers(numbers: dict[str, Any]) -> str:
    def shown(value: float | None, pattern: str) -> str:
        return "--" if value is None else pattern.format(value)

    qber = numbers["median_qber_key_basis"]
    cells = (
        ("blocks", f"{numbers['blocks']:,}"),
        ("without key", f"{numbers['blocks_without_key']:,}"),
        ("secret key made", f"{numbers['key_bits'] / 1e3:,.1f} kbit"),
        ("QBER, key basis (median)", shown(None if qber is None else 100 * qber, "{:.2f} %")),
        ("key rate of a block (median)", shown(numbers["median_key_rate_bps"], "{:,.0f} bit/s")),
        ("loss, estimated", shown(numbers["loss_db"], "{:.1f} dB")),
        ("correction, leak / n h(Q)", shown(numbers["correction_efficiency"], "{:.3f}")),
        ("passports verified", f"{numbers['passports_verified']:,}"),
        ("passports rejected", f"{len(numbers['passports_rejected']):,}"),
    )
    return figures(cells)


def _over_time(archive: Archive) -> list[str]:
    blocks, protocol = archive.blocks, archive.config.protocol
    return [
        heading("Error rate over time"),
        _figure(
            plots.error_rates(blocks, protocol.qber_threshold),
            "The key basis is compared in full after correction, the test basis openly. A cross is a block that "
            "ended without key.",
        ),
        heading("Key rate over time"),
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
        heading("Key rate against loss"),
        _figure(plots.against_loss(loss_curves, facts.measured, simulated=archive.simulated), how),
        heading("Finite-key curve"),
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
    columns = ["proof", "secret bits", "per sifted bit", "why none"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    left = f" {archive.left_out:,} older ones are left out." if archive.left_out else ""
    secrecy, correctness = newest["epsilon"]["secrecy"], newest["epsilon"]["correctness"]
    return [
        heading("Key passports"),
        paragraph(
            f"{len(archive.passports):,} passports carry this end's ML-DSA-65 signature, and their counts give the "
            f"stated length again.{left} Each block may fail to be secret with probability {secrecy:g} at most, to be "
            f"the same at both ends with {correctness:g}."
        ),
        _figure(
            plots.where_bits_go(newest, simulated=archive.simulated), "Where the sifted bits of the newest block went."
        ),
        section(
            Table(
                title="The newest block's counts under every proof",
                columns=columns,
                rows=rows,
                notes=("Only the proof chosen beforehand counts.",),
            )
        ),
    ]


def _figure(figure: Figure, caption: str) -> str:
    return drawing(plots.svg(figure), caption)


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
