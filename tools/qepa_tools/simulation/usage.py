"""What a process used, from Linux's /proc."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Peak resident memory in MB, processor time in seconds; None where the system does not say."""

    peak_mb: float | None
    cpu_s: float | None


def usage_of(pid: int) -> Usage:
    """Return what process ``pid`` used until now."""
    folder = Path(f"/proc/{pid}")
    try:
        status = folder.joinpath("status").read_text()
        fields = folder.joinpath("stat").read_text().rpartition(")")[2].split()
    except OSError:
        return Usage(None, None)
    peak_kb = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), None)
    ticks = int(fields[11]) + int(fields[12])
    return Usage(None if peak_kb is None else peak_kb / 1024, ticks / os.sysconf("SC_CLK_TCK"))
