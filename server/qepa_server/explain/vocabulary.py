"""What features are called at the bedside, and what the developers expect of them: read from board_features.toml."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("board_features.toml")
_SIGNS = {"+": 1, "-": -1, "0": 0}
IRREGULAR = "irregular"
LIMIT = 4.0  # features are clipped there: 1024 in Q8
_WEIGHTS = {"steady": 1, "regular": 2}
_TOLD = 0.2  # weight below which a feature says next to nothing
OTHER = "other"  # part of a feature that the vocabulary does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureWords:
    """One feature: see the head of board_features.toml. expect: class to +1, -1 or 0."""

    name: str
    parts: tuple[str, ...]
    unit: str
    high: str
    low: str
    usual: str
    expect: Mapping[str, int]
    why: str
    source: str
    offset: float = 0.0
    scale: float = 1.0
    middle: float = 0.0
    near: float = 0.0
    digits: int = 0
    signed: bool = False
    weighed: str = ""
    unsteady: str = ""

    def measure(self, feature: float) -> str:
        """Value in the unit a clinician reads; "at least" where the board clips it.

        >>> vocabulary()["rr_pre_local"].measure(-0.34)
        '34 %'
        """
        value = self.offset + self.scale * feature
        text = f"{value if self.signed else abs(value):.{self.digits}f} {self.unit}".rstrip()
        return f"at least {text}" if abs(feature) >= LIMIT and not self.signed else text

    def phrase(self, feature: float, irregular: float = 0.0) -> str:
        """Say what the feature tells. irregular: the feature of that name, which weighs some of the others.

        >>> vocabulary()["rr_pre_local"].phrase(-0.17, irregular=0.5)
        'came 34 % early by the last eight intervals'
        """
        if self.weighed:
            weight = 1 - _WEIGHTS[self.weighed] * irregular
            if weight < _TOLD:
                return self.unsteady
            feature /= weight
        away = feature - self.middle
        pattern = self.usual if abs(away) <= self.near else self.high if away > 0 else self.low
        return pattern.format(value=self.measure(feature))


class Vocabulary:
    """Words by the feature's name; a feature that is not there is called by its name."""

    def __init__(self, features: Sequence[FeatureWords]) -> None:
        self._features = {feature.name: feature for feature in features}

    @property
    def names(self) -> frozenset[str]:
        """Names of the features that are there."""
        return frozenset(self._features)

    def __getitem__(self, name: str) -> FeatureWords:
        """Words of a feature; of one that is not there its bare name and number."""
        return self._features.get(name) or FeatureWords(
            name=name, parts=(OTHER,), unit="", high=f"{name} is {{value}}", low=f"{name} is {{value}}",
            usual=f"{name} is {{value}}", expect={}, why="", source="", digits=2, signed=True,
        )  # fmt: skip


@cache
def vocabulary() -> Vocabulary:
    """Words of the board's features."""
    with _FILE.open("rb") as file:
        return Vocabulary([_read(name, body) for name, body in tomllib.load(file).items()])


def _read(name: str, body: dict[str, Any]) -> FeatureWords:
    return FeatureWords(
        name=name,
        parts=tuple(body.pop("part")),
        expect={class_: _SIGNS[sign] for class_, sign in body.pop("expect").items()},
        **body,
    )
