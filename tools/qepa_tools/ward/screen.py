"""The terminal: steps while the ward starts, then a live table of boards, rounds, key stock, QBER and alarms."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..command_line import folded

_STALE_MS = 5000
_DASHES = "--"
_SHOWN_ROUNDS = 5


def ward_view(state: dict[str, Any], pace: str, notice: str) -> RenderableType:
    """Return the screen for the server's state; ``pace``: real against asked speed, ``notice``: what is simulated."""
    parts: list[RenderableType] = [Text(notice, style="yellow")]
    alarms = [alarm for alarm in state["alarms"] if alarm["active"]]
    if alarms:
        parts.append(_alarms(alarms))
    parts.append(_boards(state["boards"]))
    parts.append(_links(state["gateways"]))
    parts.append(_rounds(state["rounds"], state["round"]))
    parts.append(trust_view(state))
    parts.append(Text(pace, style="dim"))
    return Group(*parts)


def lost_view(reason: str) -> RenderableType:
    """What to show while the server does not answer: nothing that could pass for a live value."""
    return Panel(Text(f"no live values: {reason}", style="bold red"))


def _alarms(alarms: list[dict[str, Any]]) -> RenderableType:
    styles = {"high": "bold white on red", "medium": "black on yellow", "low": "cyan", "technical": "cyan"}
    lines = [
        Text(
            f" {alarm['priority'].upper()}  {alarm['kind'].replace('_', ' ')}  board {alarm['board']} ",
            styles[alarm["priority"]],
        )
        for alarm in alarms
    ]
    return Panel(Group(*lines), title="Alarms", border_style="red")


def _table(title: str) -> Table:
    return Table(title=title, expand=True, box=SIMPLE_HEAD, padding=0, pad_edge=False)


def _boards(boards: list[dict[str, Any]]) -> Table:
    table = _table("Boards")
    longest = max((len(board["patient"]) for board in boards), default=0)
    for name, least in (("board", 8), ("patient", min(12, longest)), ("gateway", 4)):
        table.add_column(name, min_width=least)
    for name, least in (("heart rate", 6), ("quality", 4), ("beats", 5), ("last beat", 4), ("key", 7), ("pads", 4)):
        table.add_column(name, justify="right", min_width=least)
    table.add_column("model", justify="right")
    for board in boards:
        table.add_row(
            board["board"],
            board["patient"],
            board["gateway"],
            _heart_rate(board),
            *_vitals(board),
            board["key_source"],
            str(board["pads"]),
            f"v{board['model_version']}",
            style=None if board["online"] else "dim",
        )
    return folded(table)


def _heart_rate(board: dict[str, Any]) -> Text:
    if not board["online"]:
        return Text("silent", "red")
    vitals = board["vitals"]
    if vitals is None:
        return Text(_DASHES if board["consent"] else "no consent", "dim")
    if vitals["age_ms"] > _STALE_MS:
        return Text(f"{_DASHES} ({vitals['age_ms'] // 1000} s old)", "yellow")
    if vitals["lead_off"]:
        return Text("lead off", "cyan")
    if vitals["asystole"]:
        return Text("asystole", "bold white on red")
    return Text(f"{vitals['hr_bpm']}/min" if vitals["hr_bpm"] is not None else _DASHES, "bold green")


def _vitals(board: dict[str, Any]) -> tuple[str, str, str]:
    vitals = board["vitals"]
    if vitals is None or vitals["age_ms"] > _STALE_MS:
        return _DASHES, _DASHES, _DASHES
    quality = _DASHES if vitals["quality_percent"] is None else f"{vitals['quality_percent']}%"
    return quality, str(vitals["beats"]), vitals["beat_class"] or _DASHES


def _links(gateways: list[dict[str, Any]]) -> Table:
    table = _table("Optical links and gateways")
    left = ("gateway", "link", "model", "refused")
    columns = ("QBER", "keys in stock", "bits made", "bits used", "threat", "rekey", "spool")
    for name in (*left[:2], *columns, *left[2:]):
        table.add_column(name, justify="left" if name in left else "right")
    for gateway in gateways:
        link = gateway["link"]
        refused = ", ".join(f"{reason} {count}" for reason, count in sorted(gateway["refused"].items()))
        if link is None:
            shown = ("no answer", *[_DASHES] * 6)
        else:
            qber = _DASHES if link["qber"] is None else f"{100 * link['qber']:.2f}%"
            numbers = (link["stored_keys"], link["bits_produced"], link["bits_consumed"])
            rekey = _DASHES if link["rekey_s"] is None else f"{link['rekey_s']:.0f} s"
            shown = (link["state"], qber, *(f"{number:,}" for number in numbers), link["threat_level"], rekey)
        style = None if gateway["online"] else "red"
        releases = ", ".join(_rollout(each) for each in gateway["rollouts"])
        table.add_row(gateway["name"], *shown, str(gateway["spool"]), releases, refused or "none", style=style)
    return folded(table)


def _rounds(rounds: list[dict[str, Any]], current: dict[str, Any] | None) -> Table:
    phase = "" if current is None else f"  (round {current['number']}: {current['phase']})"
    table = _table("Rounds" + phase)
    for name in ("round", "cells", "patients", "boards", "mean heart rate", "latency", "model"):
        table.add_column(name, justify="right")
    for round_ in rounds[:_SHOWN_ROUNDS]:
        heart_rate = round_["heart_rate"]
        shown = _DASHES
        if heart_rate is not None and heart_rate["mean_bpm"] is not None:
            shown = f"{heart_rate['mean_bpm']:.0f} ± {heart_rate['sd_bpm']:.0f} /min of {heart_rate['boards']}"
        reasons = sorted({cell["reason"] for cell in round_["cells"] if cell["reason"]})
        latency = _DASHES if round_["latency_ms"] is None else f"{round_['latency_ms']:.0f} ms"
        table.add_row(
            str(round_["number"]),
            f"{sum(cell['state'] == 'summed' for cell in round_['cells'])}/{len(round_['cells'])}",
            str(round_["patients"]),
            str(round_["contributors"]),
            f"no sum: {'; '.join(reasons)}" if round_["state"] == "void" else shown,
            latency,
            _DASHES if round_["model_version"] is None else f"v{round_['model_version']}",
        )
    return folded(table)


def _rollout(release: dict[str, Any]) -> str:
    """A release in few words; of a model without its kind, which the column says."""
    kind = "" if release["kind"] == "model" else f"{release['kind']} "
    stage = f"one board first ({release['canary']})" if release["stage"] == "canary" else release["stage"]
    return f"{kind}v{release['version']} {stage}"


def trust_view(state: dict[str, Any]) -> RenderableType:
    """What the server decided: budgets by purpose, streams that are not asked for, quarantines, the audit log."""
    table = _table("Privacy")
    for name in ("purpose", "noise", "budget of each patient", "spent most", "median"):
        table.add_column(name)
    for row in state["privacy"]:
        limit = row["budget_epsilon"]
        table.add_row(
            row["purpose"],
            "in each sum" if row["noise"] else Text("none: sums are exact", "yellow"),
            "no limit set" if limit is None else f"epsilon {limit:g} at delta {row['delta']:g}",
            _standing(row["worst"]),
            _standing(row["median"]),
        )
    lines = [Text(f"not asked for: {sentence}", "yellow") for sentence in state["not_asked_for"]]
    lines += [
        Text(f"quarantined: {held['kind']} {held['name']} since round {held['round']}: {held['sentence']}", "yellow")
        for held in state["quarantines"]
    ]
    return Group(folded(table), *lines, *_audit(state["audit"]))


def _standing(standing: dict[str, Any] | None) -> str:
    if standing is None:
        return _DASHES
    spent = "no bound" if standing["spent_epsilon"] is None else f"epsilon {standing['spent_epsilon']:g}"
    return spent if standing["left"] is None else f"{spent}, {int(1000 * standing['left']) / 10}% left"


def _audit(audit: dict[str, Any]) -> list[Text]:
    lines = [
        Text(f"audit log: {name} countersigned entry {seq} of another log than this", "bold red")
        for name, seq in audit["contradicted"].items()
    ]
    lines += [
        Text(f"audit log: {name} refuses it: {why}", "bold red")
        for name, why in audit["refused"].items()
        if name not in audit["contradicted"]
    ]
    if not lines:
        kept = min(audit["kept"].values(), default=0)
        text = f"audit log: {audit['entries']} entries, {len(audit['kept'])} gateways countersigned {kept} or more"
        lines.append(Text(text, "dim"))
    return lines
