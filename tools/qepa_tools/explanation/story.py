"""One beat of a recording and why it got its class, as text; of the board's model or another, see Setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import NAMES
from qepa_server.explain.background import Background
from qepa_server.explain.beat import BeatExplanation, Reason, explain_beat
from qepa_server.explain.network import Network
from qepa_server.explain.vocabulary import vocabulary
from qepa_tools.evaluation.cohort import Case, Cohort, Track, read_cohort
from qepa_tools.evaluation.cross_validation import train
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.model import SHIPPED, load_model, recording_digest
from qepa_tools.explanation.people import background_of, network_of, rows_of
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.places import record_names
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError

OTHER_RECORDS = 40  # read at most, for the background
NEAR_S = 1.0  # a beat is looked for so far from the time that was named
METHOD = "Contributions are exact Shapley values of the model's logits."
# Where features look, in ms from the R peak: qepa_board/learning/features.py and templates.py
WINDOWS_MS = {"P": (-240, -70, "right"), "QRS": (-80, 120, "center"), "T": (140, 400, "left")}


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Whose record, records of other people, and digests of the person's own recordings, of whichever lead."""

    case: Case
    others: tuple[Case, ...]
    own: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Whose record, and with what it is explained. how, compared: a sentence each on the model and the background.

    answers: number of the class that the model calls each beat, below 0 where it gives none. explain: of a beat's place
    and the class to compare with, ValueError where they cannot be compared. names: of features, in the order of
    contributions. segments: where they look, in ms from the R peak, and where in it the name is written. measured_by,
    method: who measured the features, and a sentence on what contributions are.
    """

    case: Case
    answers: NDArray[np.int64]
    explain: Callable[[int, str | None], BeatExplanation]
    how: str
    compared: str
    names: tuple[str, ...] = NAMES
    segments: Mapping[str, tuple[int, int, str]] = field(default_factory=lambda: WINDOWS_MS)
    measured_by: str = "board"
    method: str = METHOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """number: of the beat, from 1, as the board finds them. annotated: the cardiologists' class, "-" for none."""

    setting: Setting
    number: int
    at_s: float
    annotated: str
    why: BeatExplanation


def read_setting(
    directory: Path, record: str, model: str, cache: FeatureCache, track: Track, *, lead: str | None, mains_hz: int
) -> Setting:
    """Choose model and background for a record; DataError if it, or what would be needed, is not there.

    model: a file, "shipped", or "" for the shipped one unless it knows this person; then one is trained on the others.
    """
    people = read_people(directory, record, cache, track, lead=lead, mains_hz=mains_hz)
    case, others = people.case, people.others
    network, how = _model(model, people)
    if others:
        against = f"beats of {len({other.person for other in others})} other people of {directory.name}"
    else:
        against = "this person's own beats, as no others are there: that a beat is unusual for people cannot be told"
    return Setting(
        case=case,
        answers=network.logits(rows_of(case.beats.features)).argmax(axis=1),
        explain=partial(_explain, case, network, background_of(others or [case])),
        how=how,
        compared=against,
    )


def read_people(
    directory: Path, record: str, cache: FeatureCache, track: Track, *, lead: str | None, mains_hz: int
) -> People:
    """Read a record and up to 40 more of its directory; DataError if it is not there or of no use."""
    there = record_names(directory)
    if record not in there:
        raise DataError(f"{directory} holds no record {record}; it holds {', '.join(there[:8])}{_more(there)}.")
    spaced = np.linspace(0, len(there) - 1, min(len(there), OTHER_RECORDS)).astype(int)
    names = sorted({record, *(there[k] for k in spaced)})
    cohort = read_cohort(directory, cache, track, names=names, mains_hz=mains_hz)
    usual_leads = cohort.cases
    if lead is not None:
        own = read_cohort(directory, cache, lambda n, _: n, names=[record], lead=lead, mains_hz=mains_hz)
        cohort = Cohort(tuple(c for c in cohort.cases if c.recording.id != record) + own.cases, cohort.left_out)
    cases = [case for case in cohort.cases if case.recording.id == record]
    if not cases:
        raise DataError(f"Record {record} can't be explained: {cohort.left_out[record]}")
    case = cases[0]
    known = {recording_digest(c.recording) for c in (*usual_leads, *cohort.cases) if c.person == case.person}
    others = tuple(c for c in cohort.cases if c.person != case.person)
    return People(case=case, others=others, own=frozenset(known))


def _explain(case: Case, network: Network, background: Background, place: int, rival: str | None) -> BeatExplanation:
    row = rows_of(case.beats.features[place])
    return explain_beat(
        network, row, background, names=NAMES, classes=AAMI_CLASSES, words=vocabulary(), rival=rival
    )  # fmt: skip


def known_by(trained_on: frozenset[str], people: People) -> str:
    """Half a sentence on whether a model knows whose record it is. trained_on: digests of recordings."""
    if not trained_on:
        return "which does not tell whom it was trained on"
    return "which was TRAINED ON THIS PERSON" if people.own & trained_on else "which never saw this person"


def _model(wanted: str, people: People) -> tuple[Network, str]:
    others = people.others
    if not wanted:
        model = load_model(SHIPPED)
        if not people.own & model.trained_on:
            return network_of(model), "the model that ships, which never saw this person"
        if not others:
            raise DataError(
                "The model that ships was trained on this person, and there are no others to train one on: "
                "--model shipped explains it all the same."
            )
        trained, _ = train(others, FitSettings())
        return network_of(trained), f"a model trained on {len({c.person for c in others})} other people"
    model = load_model(SHIPPED if wanted == "shipped" else Path(wanted))
    return network_of(model), f"the model {wanted}, {known_by(model.trained_on, people)}"


def tell(setting: Setting, *, number: int | None = None, at_s: float | None = None, rival: str | None = None) -> Story:
    """Explain beat `number`, or the one nearest to `at_s`, or without either the first not called N.

    rival: class that the answer is compared with, see explain_beat. DataError where there is no such
    beat or class.
    """
    case = setting.case
    beats, fs_hz = case.beats, case.recording.fs_hz
    if not len(beats.samples):
        raise DataError(f"The board finds no beat in record {case.recording.id}.")
    place = _place(setting, number, at_s)
    try:
        why = setting.explain(place, rival)
    except ValueError as error:
        raise DataError(f"No such comparison: {error}.") from error
    c = int(beats.classes[place])
    return Story(
        setting=setting,
        number=place + 1,
        at_s=float(beats.samples[place]) / fs_hz,
        annotated=AAMI_CLASSES[c] if c >= 0 else "-",
        why=why,
    )


def _place(setting: Setting, number: int | None, at_s: float | None) -> int:
    beats, recording = setting.case.beats, setting.case.recording
    n = len(beats.samples)
    if number is not None:
        if not 1 <= number <= n:
            raise DataError(f"Record {recording.id} has beats 1 to {n}, not {number}.")
        return number - 1
    if at_s is not None:
        away = np.abs(beats.samples / recording.fs_hz - at_s)
        nearest = int(away.argmin())
        if away[nearest] > NEAR_S:
            raise DataError(
                f"Record {recording.id} has no beat within {NEAR_S:g} s of {at_s:g} s; it lasts "
                f"{recording.duration_s:.0f} s, the nearest is at {beats.samples[nearest] / recording.fs_hz:.1f} s."
            )
        return nearest
    known = np.arange(n) >= min(20, n - 1)  # the patient's usual is learnt by then
    ectopic = np.flatnonzero((setting.answers > 0) & known)
    return int(ectopic[0]) if len(ectopic) else n - 1


def lines(story: Story) -> list[str]:
    """The story as text for a terminal."""
    why = story.why
    head = (
        f"Record {story.setting.case.recording.id}, beat {story.number} at {clock(story.at_s)}: called {why.answer} "
        f"({100 * why.probabilities[why.answer]:.0f} %), {why.rival} ({100 * why.probabilities[why.rival]:.0f} %); "
        f"annotated {story.annotated}."
    )
    text = [head, f"By {story.setting.how}; compared with {story.setting.compared}.", ""]
    text.append(f"Why {why.answer} and not {why.rival} (in {why.unit}; an average beat starts at {why.start:+.1f}):")
    for_, against = why.strongest(speaking_for=True), why.strongest(speaking_for=False)
    text += [f"  for      {_reason(reason)}" for reason in for_] or ["  for      nothing of weight"]
    text += [f"  against  {_reason(reason)}" for reason in against] or ["  against  nothing of weight"]
    rest = why.lead - why.start - sum(reason.contribution for reason in [*for_, *against])
    text.append(f"  {'all else':8} {rest:+5.1f}  together {why.lead:+.1f}")
    text.append("By part: " + ", ".join(f"{part} {signed(value)}" for part, value in why.parts.items()))
    text += warnings(story)
    return text


def warnings(story: Story) -> list[str]:
    """Sentences on why the explanation, or the answer, may not be worth much."""
    said = []
    if story.why.unlike:
        said.append(
            "This beat is unlike anything in the background set: the model answers beyond what it was shown, and its "
            "answer should not be relied on."
        )
    if story.why.beyond:
        said.append("Beyond what any of those beats has: " + "; ".join(r.phrase for r in story.why.beyond) + ".")
    return said


def as_json(story: Story) -> dict[str, Any]:
    """The story as a JSON object."""
    why = story.why
    return {
        "record": story.setting.case.recording.id,
        "beat": story.number,
        "at_s": round(story.at_s, 3),
        "annotated": story.annotated,
        "answer": why.answer,
        "rival": why.rival,
        "probabilities": why.probabilities,
        "model": story.setting.how,
        "background": story.setting.compared,
        "start": why.start,
        "lead": why.lead,
        "reasons": [
            {"feature": r.feature, "phrase": r.phrase, "contribution": r.contribution, "error": r.error}
            for r in why.reasons
        ],
        "unit": why.unit,
        "parts": dict(why.parts),
        "unlike_background": why.unlike,
        "beyond_background": [reason.feature for reason in why.beyond],
    }  # fmt: skip


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def signed(value: float) -> str:
    """One place after the point, with its sign; nothing is +0.0."""
    return f"{round(value, 1) + 0.0:+.1f}"


def margin(reason: Reason) -> str:
    """The contribution, and its standard error if there is one."""
    return signed(reason.contribution) + ("" if reason.error is None else f" ±{reason.error:.1f}")


def _reason(reason: Reason) -> str:
    return f"{margin(reason):>5}  {reason.phrase}"


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 8} more" if len(names) > 8 else ""
