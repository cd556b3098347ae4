"""R-peak detection, EC57: the board's beside wfdb's xqrs and gqrs and neurokit2's, on clean and on noisy records."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from qepa_tools.recordings.board_beats import match_beats
from qepa_tools.recordings.noise_stress import FRONT_END_HZ, RECORDS, is_noisy, load_noise_stress
from qepa_tools.recordings.peak_detectors import DETECTORS, PeakCache
from qepa_tools.recordings.physionet import load_all
from qepa_tools.recordings.recording import Recording, counts_from_adc
from qepa_tools.recordings.table import Table, percent

Track = Callable[[Sequence[str], str], Iterable[str]]
Score = tuple[int, int, int]  # found, missed, false


def score(found: Sequence[int], recording: Recording, counts: Callable[[int], bool], end: int) -> Score:
    """Match found with annotated beats (150 ms) as far as they lie before sample `end` and where `counts` says so."""

    def kept(sample: int) -> bool:
        return sample < end and counts(sample) and not recording.is_excluded(sample)

    annotated = [label.sample for label in recording.labels]
    partner, missed = match_beats(list(found), annotated, recording.fs_hz)
    hit = sum(j is not None and kept(annotated[j]) for j in partner)
    false = sum(j is None and kept(sample) for j, sample in zip(partner, found, strict=True))
    return hit, sum(kept(annotated[j]) for j in missed), false


def arrhythmia_tables(directory: Path, cache: PeakCache, minutes: float, track: Track) -> list[Table]:
    """One row a record of the MIT-BIH Arrhythmia Database, and one for all beats."""
    recordings = {recording.id: recording for recording in load_all(directory)}
    totals = {name: [0, 0, 0] for name in DETECTORS}
    rows = []
    for name in track(list(recordings), "R peaks"):
        recording = recordings[name]
        end = round(min(minutes * 60, recording.duration_s) * recording.fs_hz)
        row = [f"{name}, paced" if recording.paced else name]
        for detector in DETECTORS:
            found = cache.peaks(detector, counts_from_adc(recording.samples[:end]), recording.fs_hz)
            got = score(found, recording, lambda _: True, end)
            totals[detector] = [a + b for a, b in zip(totals[detector], got, strict=True)]
            row += [str(got[1]), str(got[2])]
        rows.append(row)
    summary = [[name, *_shares((t[0], t[1], t[2])), str(t[1]), str(t[2])] for name, t in totals.items()]
    beats = sum(totals["board"][:2])
    return [
        Table(
            title=f"R peaks on {len(rows)} records of the MIT-BIH Arrhythmia Database, {beats} beats",
            columns=["detector", "Se %", "PPV %", "missed", "false"],
            rows=summary,
            notes=[
                "EC57 matching within 150 ms, learning periods included, flutter left out; all get the board's 12-bit "
                "counts of one lead. The board's thresholds were chosen on these records, the others' not: the "
                "noise-stress table is the fairer one."
            ],
        ),
        Table(
            title="Missed and false beats of each record",
            columns=["record", *(f"{name} {what}" for name in DETECTORS for what in ("missed", "false"))],
            rows=rows,
        ),
    ]


def noise_tables(directory: Path, cache: PeakCache, track: Track) -> list[Table]:
    """One row a signal to noise ratio: noisy and noise-free stretches."""
    rows = []
    for name in track(list(RECORDS), "Noise stress"):
        rows += _noise_rows(f"{RECORDS[name]} dB", load_noise_stress(directory, name), cache)
    return [
        Table(
            title="R peaks under electrode motion (MIT-BIH Noise Stress, record 118)",
            columns=["signal to noise", *(f"{name} {what}" for name in DETECTORS for what in ("Se %", "PPV %"))],
            rows=rows,
            notes=[
                'Noise is on for 2 of every 4 min from the 5th on; "between" is the rest. A first-order high-pass of '
                f"{FRONT_END_HZ} Hz stands for the front end."
            ],
        )
    ]


def _noise_rows(title: str, recording: Recording, cache: PeakCache) -> list[list[str]]:
    fs_hz = recording.fs_hz
    end = len(recording.samples)
    noisy, between = [title], [f"{title}, between"]
    for detector in DETECTORS:
        found = cache.peaks(detector, counts_from_adc(recording.samples), fs_hz)
        noisy += _shares(score(found, recording, lambda s: is_noisy(s, fs_hz), end))
        between += _shares(score(found, recording, lambda s: not is_noisy(s, fs_hz), end))
    return [noisy, between]


def _shares(got: Score) -> list[str]:
    return [percent(got[0], got[0] + got[1], 2), percent(got[0], got[0] + got[2], 2)]
