"""Table "explanations-bedside" of server/LEARNING.md: what explanations of the gateway's model cost and rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from qepa_server.explain.beat import BeatExplanation
from qepa_tools.benchmarks.timing import median_s
from qepa_tools.evaluation.cohort import Case, Cohort, Track
from qepa_tools.explanation.bedside import OtherBeats, Real, explain_at_bedside
from qepa_tools.explanation.bedside_fidelity import Place, bidmc_cases, explain_s, live_beats, live_rows
from qepa_tools.explanation.bedside_story import BedsideModel, draw, read_model
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.recordings.table import Table
from qepa_tools.training.beat_set import BeatSet, beat_set, beat_sets, leads_of
from qepa_tools.training.cleaned_leads import cleaned
from qepa_tools.training.ecg_beats import CACHE
from qepa_uplink.beat_reasons import PLAYERS

_PER_PERSON = 5  # beats of a class
_SHOWN = {"S": ("RR", "QRS", "P"), "V": ("QRS", "RR", "T")}  # classes, and what may be strongest for them


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat of a person, where it is, how the model sees it, and beats of others."""

    case: Case
    place: int
    leads: Real
    numbers: Real
    others: OtherBeats

    @property
    def person(self) -> str:
        """Whose it is."""
        return self.case.person

    def explain(self, model: BedsideModel) -> BeatExplanation:
        """Why it got its class."""
        return explain_at_bedside(model.run, self.leads, self.numbers, self.others, classes=AAMI_CLASSES)


def bedside_table(cohort: Cohort, directory: Path, track: Track) -> Table:
    """Explain up to 5 beats called S and 5 called V of each person, by the model that ships; live ones of bidmc too."""
    model = read_model()
    beats = called(model, beat_sets(cohort, directory, track))
    explained = {}
    for class_ in track(list(beats), "Beats explained as at the bedside"):
        explained[class_] = [beat.explain(model) for beat in beats[class_]]
    rows = [_strongest_row(class_, beats[class_], explained[class_]) for class_ in beats]
    flat = [why for each in explained.values() for why in each]
    one = next(beat for each in beats.values() for beat in each)
    n = len(one.others.with_leads_of(one.numbers).persons)
    residual = max(abs(why.start + sum(r.contribution for r in why.reasons) - why.lead) for why in flat)
    live = live_beats(_places(beats), partial(leads_of, directory=directory))
    live_s = explain_s(model.network, next(beat for each in live.values() for beat in each))
    errors = [why.reasons[0].error for why in flat if why.reasons[0].error is not None]
    return Table(
        title="The gateway's model, explained by segments and rhythm",
        columns=["", "value"],
        rows=[
            ["players, beats of others, runs of the int8 model", f"{len(PLAYERS)}, {n}, {n << len(PLAYERS):,}"],
            ["time of one beat, CPU, ms", f"{1e3 * median_s(lambda: one.explain(model), repetitions=5):.0f}"],
            ["sum of contributions less the model's output, largest (percentage points)", f"{residual:.0e}"],
            *rows,
            ["standard error of the strongest contribution, median (percentage points)", f"{np.median(errors):.1f}"],
            ["live: runs of the int8 model; time of one beat, CPU, ms", f"{1 << len(PLAYERS)}; {1e3 * live_s:.1f}"],
            *live_rows("live", model.network, live, _SHOWN),
            *_strangers(model, directory.with_name("bidmc"), track),
        ],
        notes=[
            "The model that ships, which was TRAINED ON THESE PEOPLE, bidmc's excepted; backgrounds are of others. Up "
            f"to {_PER_PERSON} beats of a person and class, as the model calls them, right or wrong, against N. RR: "
            "the three players of the rhythm together; strongest: what speaks most for the answer. Live: as the "
            "gateway explains a beat, against that patient's usual one. Ends: the model answers otherwise once that "
            "player alone is as usual; any: mean over all seven; in brackets 95 % intervals over people. bidmc: "
            "intensive care, one lead, no labels of beats; signals were not judged before."
        ],
    )


def called(model: BedsideModel, sets: Sequence[BeatSet], seed: int = 1) -> dict[str, list[Beat]]:
    """Up to 5 beats of each person that the model calls S, and V, each with beats of the others."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Beat]] = {class_: [] for class_ in _SHOWN}
    for each in sets:
        person = each.case.person
        others = draw([other for other in sets if other.case.person != person])
        answers = model.run(each.leads.astype(np.float32), each.numbers).argmax(axis=1)
        for class_, beats in found.items():
            room = _PER_PERSON - sum(beat.person == person for beat in beats)
            for k in rng.permutation(np.flatnonzero(answers == AAMI_CLASSES.index(class_)))[:room]:
                leads = each.leads[k].astype(np.float32)
                beats.append(Beat(each.case, int(each.index[k]), leads, each.numbers[k], others))
    return found


def _strangers(model: BedsideModel, directory: Path, track: Track) -> list[list[str]]:
    """Rows of people whom the model does not know; none without their recordings."""
    if not directory.is_dir():
        return []
    sets = [beat_set(case, _one_lead(case)) for case in bidmc_cases(directory, FeatureCache(CACHE), track)]
    beats = called(model, [each for each in sets if len(each.index)])
    return live_rows("bidmc, live", model.network, live_beats(_places(beats), _one_lead), _SHOWN)


def _one_lead(case: Case) -> Real:
    return cleaned(case.recording.samples, case.recording.fs_hz)[:, None]


def _places(beats: Mapping[str, Sequence[Beat]]) -> dict[str, list[Place]]:
    return {class_: [(beat.case, beat.place) for beat in each] for class_, each in beats.items()}


def _strongest_row(class_: str, beats: Sequence[Beat], explained: Sequence[BeatExplanation]) -> list[str]:
    strongest = [max(why.parts, key=lambda part: why.parts[part]) for why in explained]  # called at once
    shares = [f"{part} {100 * strongest.count(part) / max(1, len(strongest)):.0f} %" for part in _SHOWN[class_]]
    persons = len({beat.person for beat in beats})
    return [f"called {class_}, {len(beats)} beats of {persons} people: strongest is", ", ".join(shares)]
