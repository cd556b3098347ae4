"""What is added to the scores of S and V is chosen by people left out of fits, and only where there are enough."""

import numpy as np

from qepa_tools.evaluation.class_shift import PERSONS_NEEDED, class_shift, inner_folds
from qepa_tools.evaluation.cohort import Case
from qepa_tools.evaluation.cross_validation import train
from qepa_tools.evaluation.figures import accuracy_and_f1
from qepa_tools.evaluation.fitting import FitSettings, scores_of, to_words
from qepa_tools.recordings import Recording
from qepa_tools.recordings.board_beats import BoardBeats

EAGER = FitSettings(class_power=1)  # weighs rare classes so that S and V are answered far too often
KINDS = np.repeat([0, 1, 2], [180, 9, 9])


def case(name: str, kinds: np.ndarray = KINDS) -> Case:
    """Beats of classes that overlap: no weight and no shift tells all of them apart."""
    rng = np.random.default_rng([*name.encode()])
    features = rng.normal(0, 256, (len(kinds), 17))
    features[np.arange(len(kinds)), kinds] += 500
    recording = Recording(id=name, person=name, fs_hz=360, samples=np.zeros(9, np.uint16), labels=())
    beats = BoardBeats(
        recording=name, samples=np.arange(len(kinds)) * 300, features=np.clip(features, -1024, 1024).astype(np.int16),
        classes=kinds.astype(np.int8), missed=np.zeros(0, np.int8),
    )  # fmt: skip
    return Case(recording, beats)


def people(n: int, first: int = 0) -> list[Case]:
    return [case(f"p{k}") for k in range(first, first + n)]


def biases(words: tuple[int, ...] | list[int]) -> np.ndarray:
    return np.reshape(words, (4, 18))[:, -1]


def test_who_answers_rare_classes_too_often_is_held_back_and_does_better_on_others() -> None:
    model, fitted = train(people(PERSONS_NEEDED), EAGER)
    plain = to_words(fitted)
    added = biases(model.words) - biases(plain)
    assert (added[[1, 2]] < 0).all()
    assert (added[[0, 3]] == 0).all()
    assert (np.reshape(model.words, (4, 18))[:, :-1] == np.reshape(plain, (4, 18))[:, :-1]).all()

    others = people(12, first=100)
    features = np.concatenate([of.beats.features for of in others])
    classes = np.concatenate([of.beats.classes for of in others]).astype(np.int64)
    without = np.mean(accuracy_and_f1(classes, scores_of(fitted, features).argmax(axis=1))[1])
    assert np.mean(accuracy_and_f1(classes, model.scores(features).argmax(axis=1))[1]) > without + 0.05


def test_the_same_people_give_the_same_shift_wherever_fits_begin() -> None:
    cases = people(PERSONS_NEEDED)
    model, fitted = train(cases, EAGER)
    again, _ = train(cases, EAGER, start=fitted * 0.5)
    moved = biases(again.words) - biases(to_words(train(cases, EAGER, start=fitted * 0.5)[1]))
    assert (moved == biases(model.words) - biases(to_words(fitted))).all()


def test_too_few_people_move_nothing() -> None:
    few = people(PERSONS_NEEDED - 1)
    model, fitted = train(few, EAGER)
    assert list(model.words) == to_words(fitted)
    enough, fitted = train(people(PERSONS_NEEDED), EAGER)
    assert list(enough.words) != to_words(fitted)


def test_a_class_that_only_people_of_one_fold_have_moves_nothing() -> None:
    only_one = [case(f"p{k}", KINDS if k == 3 else KINDS[KINDS != 1]) for k in range(PERSONS_NEEDED)]
    model, fitted = train(only_one, EAGER)
    assert list(model.words) == to_words(fitted)


def test_each_person_is_left_out_once() -> None:
    persons = np.repeat(np.array([9, 2, 5, 7, 11, 30]), 3)
    folds = list(inner_folds(persons))
    assert (np.sum(folds, axis=0) == 1).all()
    assert all(len(set(persons[out]) & set(persons[~out])) == 0 for out in folds)


def test_beats_that_are_told_apart_need_no_shift() -> None:
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(PERSONS_NEEDED), 30)
    classes = np.tile([0, 1, 2], 10 * PERSONS_NEEDED)
    features = rng.normal(0, 5, (len(classes), 17)).astype(np.int16)
    features[np.arange(len(classes)), classes] += 900
    assert not class_shift(features, classes, persons, FitSettings(), np.zeros((4, 18))).any()
