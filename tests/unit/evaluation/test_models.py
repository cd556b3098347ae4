"""Fitting, splits by person, and model files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qepa_tools.evaluation import cross_validation
from qepa_tools.evaluation.cohort import Case, Cohort
from qepa_tools.evaluation.cross_validation import between_persons, folds_of_persons, train, within_persons
from qepa_tools.evaluation.evaluate import of_model
from qepa_tools.evaluation.fitting import FitSettings, beat_weights, fit_softmax, to_words
from qepa_tools.evaluation.hidden_layer import fit_hidden
from qepa_tools.evaluation.model import SHIPPED, load_model, recording_digest, save_model
from qepa_tools.recordings import BeatLabel, DataError, Recording
from qepa_tools.recordings.board_beats import BoardBeats
from qepa_wire.model import SOFTMAX, Model, encode_model

SETTINGS = FitSettings()


def case(name: str, classes: list[int], person: str | None = None, seed: int = 0) -> Case:
    """Beats whose first features tell their class."""
    rng = np.random.default_rng([seed, *name.encode()])
    features = rng.normal(0, 40, (len(classes), 17))
    features[np.arange(len(classes)), classes] += 400
    samples = np.arange(len(classes)) * 300
    recording = Recording(
        id=name, person=person or name, fs_hz=360, samples=rng.integers(0, 9, 99).astype(np.uint16),
        labels=tuple(BeatLabel(int(s), c) for s, c in zip(samples, classes, strict=True)),
    )  # fmt: skip
    found = BoardBeats(
        recording=name, samples=samples, features=np.clip(features, -1024, 1024).astype(np.int16),
        classes=np.array(classes, np.int8), missed=np.zeros(0, np.int8),
    )  # fmt: skip
    return Case(recording, found)


def people(n: int) -> list[Case]:
    return [case(f"p{k}", [0] * 30 + [1] * 4 + [2] * 6) for k in range(n)]


def test_no_model_has_seen_whom_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [*people(6), case("x1", [0, 2] * 9, "x"), case("x2", [0, 1] * 9, "x")]
    judged: dict[str, set[str]] = {}

    def spy(part, settings, start=None):
        model, fitted = train(part, settings, start)
        seen = {c.person for c in part}

        class Spy:
            def scores(self, features):
                judged.update({c.person: seen for c in cases if c.beats.features is features})
                return model.scores(features)

        return Spy(), fitted

    monkeypatch.setattr(cross_validation, "train", spy)
    scores = between_persons(cases, SETTINGS, 3, lambda names, _: names)
    assert set(judged) == {c.person for c in cases}
    assert all(person not in seen for person, seen in judged.items())
    right = [(s.argmax(axis=1) == c.beats.classes).mean() for s, c in zip(scores, cases, strict=True)]
    assert min(right) > 0.9


def test_rare_beats_are_dealt_out_over_the_folds() -> None:
    cases = [case(f"n{k}", [0] * 9) for k in range(6)] + [case(f"s{k}", [0, 1] * 9) for k in range(3)]
    folds = folds_of_persons(cases, 3)
    assert all(sum(person.startswith("s") for person in fold) == 1 for fold in folds)
    assert sorted(person for fold in folds for person in fold) == sorted(c.person for c in cases)


def test_a_split_by_beat_judges_each_beat_once() -> None:
    cases = people(2)
    scores = within_persons(cases, SETTINGS, 4)
    assert [len(s) for s in scores] == [40, 40]
    assert all((np.abs(s).sum(axis=1) > 0).all() for s in scores)


def test_too_few_people_or_classes() -> None:
    with pytest.raises(DataError, match="at least 4 persons, there are 3"):
        between_persons(people(3), SETTINGS, 10, lambda names, _: names)
    with pytest.raises(DataError, match="18 beats that are all of one class"):
        train([case("a", [0] * 9), case("b", [0] * 9)], SETTINGS)


def test_one_person_of_one_class_does_no_harm() -> None:
    cases = [*people(4), case("quiet", [0] * 50), case("all v", [2] * 20)]
    scores = between_persons(cases, SETTINGS, 10, lambda names, _: names)
    assert [(s.argmax(axis=1) == c.beats.classes).mean() > 0.9 for s, c in zip(scores, cases, strict=True)] == [
        True
    ] * 6


def test_weights_of_classes_and_persons() -> None:
    classes, persons = np.array([0] * 6 + [1, 1, 2, 3]), np.array([0, 0, 0, 0, 0, 1, 0, 1, 0, 0])
    alike = beat_weights(classes, persons, FitSettings(class_power=0, person_power=0, fusion=1))
    assert alike == pytest.approx(np.full(10, 0.1))
    full = beat_weights(classes, persons, FitSettings(class_power=1, person_power=1, fusion=0))
    assert full[classes == 1].sum() == pytest.approx(full[classes == 2].sum())
    assert full[5] == pytest.approx(full[:5].sum())
    assert full[9] == 0


def test_the_fit_is_where_no_step_helps_and_does_not_depend_on_the_start() -> None:
    rng = np.random.default_rng(3)
    features, classes = rng.normal(0, 200, (400, 5)).astype(np.int16), rng.integers(0, 4, 400)
    weights = np.full(400, 1 / 400, np.float32)
    fitted = fit_softmax(features, classes, weights, 1e-3)
    elsewhere = fit_softmax(features, classes, weights, 1e-3, start=rng.normal(size=fitted.shape))
    assert elsewhere == pytest.approx(fitted, abs=2e-3)
    rows = np.c_[features / 256, np.ones(400)]
    p = np.exp(rows @ fitted.T)
    p /= p.sum(axis=1, keepdims=True)
    gradient = (p - np.eye(4)[classes]).T @ rows / 400 + 1e-3 * fitted
    assert np.abs(gradient).max() < 1e-3
    assert to_words(np.array([[1.0, -100.0, 100.0]])) == [4096, -32767, 32767]


def test_the_hidden_layer_learns_what_no_line_divides() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(-512, 513, (4000, 3))
    classes = (features[:, 0] * features[:, 1] > 0).astype(int)
    features = features.astype(np.int16)
    model = fit_hidden(features, np.eye(2, dtype=np.float32)[classes], np.ones(4000, np.float32), 1e-6)
    line = fit_softmax(features, classes, np.full(4000, 1 / 4000, np.float32), 1e-6)
    assert (model.scores(features).argmax(axis=1) == classes).mean() > 0.75
    assert ((features / 256 @ line[:, :-1].T + line[:, -1]).argmax(axis=1) == classes).mean() < 0.6


def test_a_model_file_is_read_as_it_was_written_and_nothing_else_is_one(tmp_path: Path) -> None:
    shipped = load_model(SHIPPED)
    save_model(tmp_path / "m", shipped)
    assert load_model(tmp_path / "m") == shipped
    body = json.loads((tmp_path / "m").read_text())
    for wrong in (
        {"words": body["words"][1:]}, {"words": [1.5] * 72}, {"words": [40000] * 72}, {"hidden": 99}, {"format": 2},
        {"trained_on": 3}, {"card": None}, {"words": "x" * 72},
    ):  # fmt: skip
        (tmp_path / "m").write_text(json.dumps({**body, **wrong}))
        with pytest.raises(DataError, match="is no model of a board"):
            load_model(tmp_path / "m")
    (tmp_path / "m").write_text("{")
    with pytest.raises(DataError, match="is no model of a board"):
        load_model(tmp_path / "m")


def test_a_model_as_boards_get_it_does_not_tell_whom_it_knows(tmp_path: Path) -> None:
    words = load_model(SHIPPED).words
    (tmp_path / "m").write_bytes(encode_model(Model(3, SOFTMAX, 17, 0, 4, 12, words)))
    pushed = load_model(tmp_path / "m")
    assert (pushed.words, pushed.hidden, pushed.trained_on) == (words, 0, frozenset())
    assert "INFLATED" in of_model(Cohort(tuple(people(1)), {}), pushed, "m").how
    coarse, other = Model(3, SOFTMAX, 17, 0, 4, 10, words), Model(3, SOFTMAX, 8, 0, 8, 12, words)
    for blob in (encode_model(coarse), encode_model(other), b"QM"):
        (tmp_path / "m").write_bytes(blob)
        with pytest.raises(DataError, match="is no model of a board"):
            load_model(tmp_path / "m")


def test_the_shipped_model_says_whom_it_knows_and_how_good_it_is() -> None:
    shipped = load_model(SHIPPED)
    assert len(shipped.words) == 72
    assert len(shipped.trained_on) == len(shipped.card["records"])
    assert {"201+202", "118"} <= set(shipped.card["persons"])
    assert {"judged_by", "limits", "accuracy", "macro_f1_nsv", "intervals_95"} <= set(shipped.card)


def test_a_model_is_never_judged_on_a_person_it_was_trained_on() -> None:
    cases = [*people(3), case("x1", [0, 2] * 9, "x"), case("x2", [0, 1] * 9, "x")]
    model = replace(train(cases, SETTINGS)[0], trained_on=frozenset({recording_digest(cases[3].recording)}))
    result = of_model(Cohort(tuple(cases), {}), model, "m")
    assert [c.person for c in result.cohort.cases] == ["p0", "p1", "p2"]
    assert set(result.cohort.left_out) == {"x1", "x2"}
    noisy = case("118e24", [0, 2] * 9, "118")
    card = replace(model, card={"persons": ["118"]})
    assert set(of_model(Cohort((*cases, noisy), {}), card, "m").cohort.left_out) == {"x1", "x2", "118e24"}
    everyone = replace(model, trained_on=frozenset(recording_digest(c.recording) for c in cases))
    with pytest.raises(DataError, match="trained on everybody here"):
        of_model(Cohort(tuple(cases), {}), everyone, "m")
