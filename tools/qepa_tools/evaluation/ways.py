"""Ways to make a model of beats, each to be judged by `study` on people it was made without.

Scores are those of numbers, not of words: the difference is below the last digit that the study shows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import LIMIT, NAMES, ONE
from qepa_tools.evaluation.class_shift import class_shift, inner_folds
from qepa_tools.evaluation.cohort import Case
from qepa_tools.evaluation.figures import accuracy_and_f1
from qepa_tools.evaluation.fitting import FitSettings, beat_weights, fit_softmax, scores_of
from qepa_tools.evaluation.hidden_layer import fit_hidden
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError

Fit = Callable[["Beats", NDArray[np.int16]], NDArray[np.float64]]

_NEAR = FitSettings()
_GRID = [FitSettings(class_power=c, person_power=p) for c in (0.3, 0.6) for p in (0.0, 1.0)]
_SLOW = 256  # beats of a running mean


@dataclass(frozen=True, slots=True)
class Beats:
    """Labelled beats: features (Q8), AAMI class numbers, the number of the person."""

    features: NDArray[np.int16]
    classes: NDArray[np.int64]
    persons: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Beats":
        """Those beats only."""
        return Beats(self.features[chosen], self.classes[chosen], self.persons[chosen])


@dataclass(frozen=True, slots=True)
class Way:
    """A way to make a model. more: further beats of the training people. view: what becomes of features before."""

    name: str
    fit: Fit
    more: str = ""
    view: Callable[[Case], NDArray[np.int16]] | None = None
    remark: str = ""


def beats_of(
    cases: Sequence[Case], persons: Mapping[str, int], view: Callable[[Case], NDArray[np.int16]] | None = None
) -> Beats:
    """Put the labelled beats of cases together; view: what their features become."""
    features, classes, who = [], [], []
    for case in cases:
        chosen = case.beats.labelled
        features.append((case.beats.features if view is None else view(case))[chosen])
        classes.append(case.beats.classes[chosen].astype(np.int64))
        who.append(np.full(int(chosen.sum()), persons[case.person]))
    return Beats(np.concatenate(features), np.concatenate(classes), np.concatenate(who))


def leave_one_out(beats: Beats, fit: Fit, more: Beats | None = None) -> NDArray[np.float64]:
    """Scores of each beat from a model made without its person."""
    scores = np.zeros((len(beats.classes), len(AAMI_CLASSES)))
    for person in np.unique(beats.persons):
        out = beats.persons == person
        training = beats.where(~out)
        if more is not None:
            training = _joined(training, more.where(more.persons != person))
        scores[out] = fit(training, beats.features[out])
    return scores


class Softmax:
    """The softmax regression of a board. Each fit begins where the last one ended: quicker, and to the same end."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings
        self._start: NDArray[np.float64] | None = None

    def __call__(self, training: Beats, features: NDArray[np.int16]) -> NDArray[np.float64]:
        """Scores of features by a model made from training."""
        return scores_of(self.fit(training), features)

    def fit(self, training: Beats) -> NDArray[np.float64]:
        """Coefficients of a model made from training."""
        weights = beat_weights(training.classes, training.persons, self._settings)
        self._start = fit_softmax(training.features, training.classes, weights, self._settings.penalty, self._start)
        return self._start


class Nested:
    """Softmax regression with the settings that do best among the training people."""

    def __init__(self, grid: Sequence[FitSettings]) -> None:
        self._fits = [Softmax(settings) for settings in grid]

    def __call__(self, training: Beats, features: NDArray[np.int16]) -> NDArray[np.float64]:
        """Scores of features by a model made from training."""

        def worth(fit: Softmax) -> float:
            return float(np.mean(accuracy_and_f1(training.classes, _inner_scores(training, fit).argmax(axis=1))[1]))

        return max(self._fits, key=worth)(training, features)


class Shifted(Softmax):
    """The softmax regression, and added to the scores of S and V what serves training people left out best."""

    def __call__(self, training: Beats, features: NDArray[np.int16]) -> NDArray[np.float64]:
        """Scores of features by a model made from training."""
        fitted = self.fit(training)
        shift = class_shift(training.features, training.classes, training.persons, self._settings, fitted)
        return scores_of(fitted, features) + shift


def pairwise_fit(training: Beats, features: NDArray[np.int16]) -> NDArray[np.float64]:
    """One regression for each two of N, S, V; the scores are sums of their log probabilities."""
    scores = np.full((len(features), len(AAMI_CLASSES)), -1e3)
    scores[:, :3] = 0
    for pair in combinations(range(3), 2):
        part = training.where(np.isin(training.classes, pair))
        between = Softmax(_NEAR)(part, features)[:, pair]
        log_p = between - np.logaddexp(between[:, :1], between[:, 1:])
        for c, column in zip(pair, log_p.T, strict=True):
            scores[:, c] += column
    return scores


def hidden_fit(training: Beats, features: NDArray[np.int16], penalty: float = 1e-4) -> NDArray[np.float64]:
    """The board's hidden layer."""
    weights = beat_weights(training.classes, training.persons, _NEAR)
    target = np.eye(len(AAMI_CLASSES), dtype=np.float32)[training.classes]
    return fit_hidden(training.features, target, weights, penalty).scores(features)


def teacher_fit(training: Beats, features: NDArray[np.int16]) -> NDArray[np.float64]:
    """Gradient-boosted trees, far too large for a board: what the features may hold."""
    return np.log(_trees(training, features) + 1e-6)


def distilled_fit(training: Beats, features: NDArray[np.int16]) -> NDArray[np.float64]:
    """The board's hidden layer, taught half by the trees' answers and half by the labels."""
    labels = np.eye(len(AAMI_CLASSES), dtype=np.float32)[training.classes]
    target = np.asarray((labels + _trees(training, training.features)) / 2, dtype=np.float32)
    weights = beat_weights(training.classes, training.persons, _NEAR)
    return fit_hidden(training.features, target, weights, 1e-4).scores(features)


def _trees(training: Beats, features: NDArray[np.int16]) -> NDArray[np.float64]:
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415
    except ImportError as error:
        raise DataError("The trees need scikit-learn: pip install scikit-learn, or choose other rows.") from error
    model = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.12, max_leaf_nodes=12, l2_regularization=5, min_samples_leaf=40, random_state=0
    )
    weights = beat_weights(training.classes, training.persons, replace(_NEAR, fusion=0.01))
    model.fit(training.features, training.classes, sample_weight=weights * len(weights))
    p = np.zeros((len(features), len(AAMI_CLASSES)))
    p[:, model.classes_] = model.predict_proba(features)
    return p


def _inner_scores(training: Beats, fit: Softmax) -> NDArray[np.float64]:
    scores = np.zeros((len(training.classes), len(AAMI_CLASSES)))
    for out in inner_folds(training.persons):
        scores[out] = fit(training.where(~out), training.features[out])
    return scores


def _joined(one: Beats, other: Beats) -> Beats:
    return Beats(
        np.concatenate([one.features, other.features]),
        np.concatenate([one.classes, other.classes]),
        np.concatenate([one.persons, other.persons]),
    )


def less_running_mean(case: Case) -> NDArray[np.int16]:
    """Features less their running mean over the patient's beats; no beat pulls by more than a half."""
    result = np.zeros_like(case.beats.features)
    mean = np.zeros(result.shape[1])
    for n, row in enumerate(case.beats.features):
        away = row - mean
        result[n] = np.clip(np.rint(away), -LIMIT, LIMIT)
        mean += np.clip(away, -ONE / 2, ONE / 2) * max(1 / (n + 1), 1 / _SLOW)
    return result


def without(*names: str) -> Callable[[Case], NDArray[np.int16]]:
    """View in which these features are 0 in every beat."""
    places = [NAMES.index(name) for name in names]

    def view(case: Case) -> NDArray[np.int16]:
        rows = case.beats.features.copy()
        rows[:, places] = 0
        return rows

    return view


def ways() -> list[Way]:
    """Every row of the table."""
    near = Softmax(_NEAR)
    plain = FitSettings(class_power=0, person_power=0, fusion=1)
    return [
        Way("beats weigh alike", Softmax(plain)),
        Way("classes weighed, root", Softmax(replace(plain, class_power=0.5))),
        Way("the same, F left out", Softmax(replace(plain, class_power=0.5, fusion=0))),
        Way("the same, persons weighed alike: no shift", near),
        Way("the same, classes weighed in full", Softmax(replace(_NEAR, class_power=1))),
        Way("weights chosen inside", Nested(_GRID), remark="nested"),
        Way("no shift, but S and V shifted by people inside: as shipped", Shifted(_NEAR), remark="nested"),
        Way("no shift, other lead learnt too", near, more="lead"),
        Way("no shift, muscle noise learnt too", near, more="noise"),
        Way("pairs of classes", pairwise_fit, remark="no board"),
        Way("no shift, less the patient's running mean", near, view=less_running_mean, remark="no board"),
        *(
            Way(f"no shift, without {' and '.join(names)}", near, view=without(*names))
            for names in (
                ("shape_early",),
                ("turned",),
                ("p_unlike",),
                ("early", "early_like"),
                ("width_ratio", "amplitude"),
                ("irregular", "novelty"),
            )
        ),
        Way("hidden layer of 10", hidden_fit),
        Way("hidden layer, noise and other lead learnt too", hidden_fit, more="both"),
        Way("gradient-boosted trees", teacher_fit, remark="no board"),
        Way("hidden layer, distilled from the trees", distilled_fit),
    ]
