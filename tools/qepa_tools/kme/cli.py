"""`qepa kme`: conformance."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..command_line import JsonOption, fail, show_table
from ..errors import ToolError

app = typer.Typer(no_args_is_help=True, help="Key-management entities (ETSI GS QKD 014).")

_MARKS = {"passed": "[green]passed[/]", "failed": "[red]FAILED[/]", "skipped": "[yellow]skipped[/]"}


@dataclass(frozen=True, slots=True)
class Result:
    """How one check ended."""

    number: int
    name: str
    clause: str
    level: str
    title: str
    result: str
    why: str


@app.callback()
def main() -> None:
    """Key-management entities (ETSI GS QKD 014)."""


@app.command()
def conformance(
    url: Annotated[str, typer.Argument(help="The KME that hands keys out, https://HOST:PORT.")],
    *,
    cert: Annotated[Path, typer.Option(help="Certificate of the master SAE (PEM).")],
    key: Annotated[Path, typer.Option(help="Its private key.")],
    ca: Annotated[Path, typer.Option(help="Authority of the KMEs' certificates.")],
    slave: Annotated[str, typer.Option(help="Name of a slave SAE.")],
    master: Annotated[str | None, typer.Option(help="Name of the master (default: its common name).")] = None,
    slave_url: Annotated[str | None, typer.Option(help="The slave's KME (default: URL).")] = None,
    slave_cert: Annotated[Path | None, typer.Option(help="Certificate of the slave, to fetch keys.")] = None,
    slave_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    third: Annotated[str | None, typer.Option(help="Name of another slave, for keys that several share.")] = None,
    third_cert: Annotated[Path | None, typer.Option(help="Certificate of the other slave.")] = None,
    third_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a KME, clause by clause. It uses some dozens of keys up.

    Ends with 0 if nothing the specification demands fails, 1 if something does, 2 if the KME cannot be reached.
    """
    from .checks import CHECKS, run_check  # noqa: PLC0415  # commands load only what they need
    from .target import Target  # noqa: PLC0415
    from .tls import HttpsSae, Papers, TlsProbe  # noqa: PLC0415

    try:
        with contextlib.ExitStack() as stack:

            def sae(at: str, certificate: Path | None, private_key: Path | None) -> HttpsSae | None:
                if certificate is None or private_key is None:
                    return None
                opened = HttpsSae(at, Papers(certificate, private_key, ca))
                stack.callback(opened.close)
                return opened

            papers = Papers(cert, key, ca)
            enc = HttpsSae(url, papers)
            stack.callback(enc.close)
            target = Target(
                master=master or papers.common_name(),
                slave=slave,
                tls=TlsProbe(url, ca),
                enc=enc,
                dec=sae(slave_url or url, slave_cert, slave_key),
                dec_as_other=sae(slave_url or url, cert, key) if slave_cert else None,
                third=third,
                third_dec=sae(slave_url or url, third_cert, third_key),
            )
            results = []
            for check in CHECKS:
                result, why = run_check(check, target)
                results.append(Result(check.number, check.name, check.clause, check.level, check.title, result, why))
    except ToolError as error:
        fail(error)
    failed = [result for result in results if result.result == "failed" and result.level == "shall"]
    if as_json:
        print(json.dumps({"url": url, "conforms": not failed, "checks": [asdict(result) for result in results]}))
    else:
        _print(results)
    raise typer.Exit(bool(failed))


def _print(results: list[Result]) -> None:
    table = Table("", "clause", "", "what", "", "why", box=None, title="ETSI GS QKD 014 V1.1.1")
    for result in results:
        row = (str(result.number), result.clause, result.level, result.title, _MARKS[result.result], result.why)
        table.add_row(*row)
    counts = {mark: sum(result.result == mark for result in results) for mark in _MARKS}
    table.caption = ", ".join(f"{number} {mark}" for mark, number in counts.items())
    show_table(table)
