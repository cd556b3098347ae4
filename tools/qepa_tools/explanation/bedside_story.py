"""One beat of a recording as the gateway's model sees it, and beats of other people that it is measured against."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from qepa_gateway.inference.contract import load_model
from qepa_gateway.inference.runtime import InferenceError, Int8Model
from qepa_gateway.inference.shelf import ModelShelf
from qepa_server.explain.beat import BeatExplanation
from qepa_tools.evaluation.cohort import Track
from qepa_tools.explanation.bedside import OtherBeats, Real, explain_at_bedside
from qepa_tools.explanation.story import Setting, known_by, read_people
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError
from qepa_tools.training.beat_set import BeatSet, beat_set, leads_of
from qepa_uplink.beat_reasons import EDGES_MS, PLAYERS
from qepa_uplink.bedside_models import ECG_BEATS

METHOD = (
    "Contributions are exact Shapley values of the difference of two of the model's probabilities (not calibrated), "
    "which runs from -100 to +100 percentage points; ± is their standard error, as other people differ."
)
_SEGMENTS = {name: (*EDGES_MS[name], side) for name, side in (("P", "right"), ("QRS", "center"), ("T", "center"))}
_AT_ONCE = 1024  # rows for the model: a long record's are many
_EACH = 2  # beats of each other person
_USUAL_KNOWN = 64  # beats after which the gateway knows what is usual
_FIRST = 250  # beats of others that are read: to read them takes longer than to explain one


@dataclass(frozen=True, slots=True, kw_only=True)
class BedsideModel:
    """The model, what it is called, and digests of the recordings that it was trained on, if its card tells."""

    network: Int8Model
    name: str
    trained_on: frozenset[str]

    def run(self, leads: Real, numbers: Real, each: Callable[[Sequence[int]], Iterable[int]] = iter) -> Real:
        """Probabilities, a row a beat; `each` may show how far it is."""
        starts = range(0, max(1, len(leads)), _AT_ONCE)
        return np.concatenate(
            [self.network.run_rows(leads[k : k + _AT_ONCE], numbers[k : k + _AT_ONCE]) for k in each(starts)]
        )


def read_model(wanted: str = "") -> BedsideModel:
    """Read a TFLite file, with its card beside it if there is one, or what ships; DataError if it is none."""
    try:
        if wanted in {"", "shipped"}:
            network, card = ModelShelf(None).get(ECG_BEATS)
            return BedsideModel(network=network, name="that ships", trained_on=frozenset(card.get("trained_on", ())))
        path = Path(wanted)
        network = load_model(ECG_BEATS, path.read_bytes())
    except (InferenceError, OSError) as error:
        raise DataError(f"{wanted or 'What ships'} is no model of the gateway's for beats: {error}.") from error
    return BedsideModel(network=network, name=wanted, trained_on=_trained_on(path.with_suffix(".json")))


def read_bedside(
    directory: Path, record: str, model: str, cache: FeatureCache, track: Track, *, lead: str | None, mains_hz: int
) -> Setting:
    """What explains beats of a record by the gateway's model; DataError if it, or what would be needed, is not there.

    model: a TFLite file, or "" or "shipped" for the one that ships, which may have been trained on this person.
    """
    gateways = read_model(model)
    people = read_people(directory, record, cache, track, lead=lead, mains_hz=mains_hz)
    if not people.others:
        raise DataError(f"{directory} holds nobody else whose beats these could be measured against.")
    (leads,) = [
        leads_of(people.case, directory, lead=lead, mains_hz=mains_hz) for _ in track([record], "Leads of the record")
    ]
    own = beat_set(people.case, leads, each=lambda beats: track(beats, "Windows of the record's beats"))
    if not len(own.index):
        raise DataError(f"Record {record} has no beat whose signal is whole, as the gateway's model needs it.")
    others = {case.recording.id: case for case in people.others}
    read = [
        beat_set(others[name], leads_of(others[name], directory, mains_hz=mains_hz), _FIRST)
        for name in track(list(others), "Windows of others' beats")
    ]
    try:
        drawn = draw(read).with_leads_of(own.numbers.max(axis=0))  # of two leads if any beat has them
    except ValueError as error:
        raise DataError(f"Record {record} can't be explained: {error}.") from error
    answers = np.full(len(people.case.beats.samples), -1, np.int64)
    found = gateways.run(own.leads.astype(np.float32), own.numbers, lambda starts: track(starts, "The model's answers"))
    answers[own.index] = found.argmax(axis=1)
    return Setting(
        case=people.case,
        answers=answers,
        explain=partial(_explain, gateways, own, drawn),
        how=f"the gateway's int8 model {gateways.name}, {known_by(gateways.trained_on, people)}",
        compared=f"beats of {len(np.unique(drawn.persons))} other people of {directory.name}",
        names=PLAYERS,
        segments=_SEGMENTS,
        measured_by="gateway",
        method=METHOD,
    )


def draw(sets: Sequence[BeatSet], seed: int = 1) -> OtherBeats:
    """Two beats of each person as they come, once the gateway would know what is usual; DataError if there are none."""
    rng = np.random.default_rng(seed)
    names = sorted({each.case.person for each in sets})
    leads, numbers, persons = [], [], []
    for number, name in enumerate(names):
        own = [each for each in sets if each.case.person == name]
        places = [
            (s, k) for s, each in enumerate(own) for k in np.flatnonzero(each.index >= min(_USUAL_KNOWN, _late(each)))
        ]
        for chosen in rng.permutation(len(places))[:_EACH]:
            s, k = places[chosen]
            leads.append(own[s].leads[k].astype(np.float32))
            numbers.append(own[s].numbers[k])
            persons.append(number)
    if not leads:
        raise DataError("Nobody else's signals have a whole beat.")
    return OtherBeats(leads=np.array(leads), numbers=np.array(numbers), persons=np.array(persons, np.int64))


def _late(each: BeatSet) -> int:
    return int(each.index[len(each.index) // 2]) if len(each.index) else 0


def _explain(model: BedsideModel, own: BeatSet, others: OtherBeats, place: int, rival: str | None) -> BeatExplanation:
    row = np.flatnonzero(own.index == place)
    if not len(row):
        raise ValueError("the gateway's model judges no beat whose signal has gaps or runs over the record's ends")
    k = int(row[0])
    return explain_at_bedside(
        model.run, own.leads[k].astype(np.float32), own.numbers[k], others, classes=AAMI_CLASSES, rival=rival
    )  # fmt: skip


def _trained_on(card: Path) -> frozenset[str]:
    """What a card beside a model says; nothing if there is none that can be read."""
    try:
        body = json.loads(card.read_bytes())
    except (OSError, ValueError):
        return frozenset()
    named = body.get("trained_on", ()) if isinstance(body, dict) else ()
    return frozenset(name for name in named if isinstance(name, str)) if isinstance(named, list) else frozenset()
