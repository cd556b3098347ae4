"""One patient's care: consents, what boards send and models find under them, alerts."""

from typing import Annotated, Literal

from pydantic import Field

from ..beat_reasons import PLAYERS
from ..bedside_models import CONTRACTS, ECG_BEATS, NUMBERS
from .fields import BoardId, Message, Name, Nonce, Purpose, TimeMs
from .signed import SignedBody

Thousandths = Annotated[int, Field(ge=-4000, le=4000)]
Share = Annotated[int, Field(ge=-2000, le=2000)]
Reading = tuple[
    Annotated[int, Field(ge=1, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=-(2**15), lt=2**15)],
]

BEATS = CONTRACTS[ECG_BEATS]
LEAD_LENGTH = BEATS.inputs[0].shape[1]
LEAD_STEPS = 31  # a byte holds +-4 heights


class Consent(Message):
    """A patient's consent, signed by the consent desk (see :class:`SignedConsent`).

    ``care`` is live monitoring; ``statistics`` and ``learning`` are to be in the sums of that stream.
    """

    consent_id: bytes = Field(min_length=16, max_length=16)
    patient: Name
    purpose: Purpose = "care"
    boards: tuple[BoardId, ...] = Field(max_length=64)
    not_before_s: int = Field(ge=0, lt=2**43)
    not_after_s: int = Field(ge=0, lt=2**43)


class SignedConsent(SignedBody):
    """A Consent that the desk signed."""


class CareGrant(Message):
    """Server to gateway, sealed: the consent, and the care key of one board that it covers."""

    type: Literal["care_grant"] = "care_grant"
    consent: SignedConsent
    board: BoardId
    care_key: Nonce


class CareRevoke(Message):
    """Server to gateway, signed: the consent is withdrawn; forget its keys and stop the boards."""

    type: Literal["care_revoke"] = "care_revoke"
    consent_id: bytes = Field(min_length=16, max_length=16)


class CareRecord(Message):
    """Gateway to server, sealed: one board's care payload as it came, still under its care key."""

    type: Literal["care_record"] = "care_record"
    board: BoardId
    seq: int = Field(ge=0, le=2**32 - 1)
    payload: bytes = Field(max_length=256)
    received_ms: TimeMs


class WaveWatch(Message):
    """Server to gateway, sealed: somebody looks at a board's ECG for ``seconds`` from now on; 0: nobody any more."""

    type: Literal["wave_watch"] = "wave_watch"
    board: BoardId
    seconds: int = Field(ge=0, le=600)


class WaveRecord(Message):
    """Gateway to server, sealed: one board's WAVE payload as it came, still under its care key, while it is watched."""

    type: Literal["wave_record"] = "wave_record"
    board: BoardId
    seq: int = Field(ge=0, le=2**32 - 1)
    payload: bytes = Field(max_length=4096)
    received_ms: TimeMs


class Findings(Message):
    """Gateway to server, sealed: what a model at the bedside makes of one board's care stream.

    Only under a consent in force, as a CareRecord. ``readings`` are (code, quality, value) as in a care record, codes
    of readings.py; ``t_ms`` is the board's time since boot that they are about.
    """

    type: Literal["findings"] = "findings"
    board: BoardId
    consent_id: bytes = Field(min_length=16, max_length=16)
    boots: int = Field(ge=0, le=0xFFFF)
    t_ms: int = Field(ge=0, le=2**32 - 1)
    received_ms: TimeMs
    model: Name
    version: int = Field(ge=1, le=2**32 - 1)
    readings: tuple[Reading, ...] = Field(max_length=16)


class ExplainedBeat(Message):
    """Gateway to server, sealed: a beat that the gateway's ECG model calls other than normal, and why.

    Only under a consent in force, as Findings. Against the same patient's usual beat in a regular rhythm: ``shares``
    are the exact Shapley values of PLAYERS (beat_reasons.py) for the probability of ``answer`` less that of N, in
    thousandths; ``probabilities`` (N, S, V, F) and ``numbers`` (NUMBERS of bedside_models.py) likewise. ``beat`` and
    ``usual`` are the first lead at 125 Hz as the model saw it, signed bytes, LEAD_STEPS to the height of the usual QRS.
    ``t_ms`` is the R peak's time since the board's boot, ``received_ms`` when that reached the gateway.
    """

    type: Literal["explained_beat"] = "explained_beat"
    board: BoardId
    consent_id: bytes = Field(min_length=16, max_length=16)
    boots: int = Field(ge=0, le=0xFFFF)
    t_ms: int = Field(ge=0, le=2**32 - 1)
    received_ms: TimeMs
    model: Name
    version: int = Field(ge=1, le=2**32 - 1)
    answer: Literal["S", "V", "F"]
    probabilities: tuple[Share, ...] = Field(min_length=len(BEATS.outputs), max_length=len(BEATS.outputs))
    shares: tuple[Share, ...] = Field(min_length=len(PLAYERS), max_length=len(PLAYERS))
    numbers: tuple[Thousandths, ...] = Field(min_length=len(NUMBERS), max_length=len(NUMBERS))
    beat: bytes = Field(min_length=LEAD_LENGTH, max_length=LEAD_LENGTH)
    usual: bytes = Field(min_length=LEAD_LENGTH, max_length=LEAD_LENGTH)


class AlertReport(Message):
    """Gateway to server, sealed, durable: an alert as the gateway opened it."""

    type: Literal["alert"] = "alert"
    id: str = Field(max_length=64)
    board: BoardId
    kind: int = Field(ge=0, le=255)
    active: bool
    value: int = Field(ge=-(2**15), lt=2**15)
    t_ms: TimeMs
    received_ms: TimeMs


Signed = CareRevoke
Sealed = CareGrant | CareRecord | WaveWatch | WaveRecord | Findings | ExplainedBeat | AlertReport
