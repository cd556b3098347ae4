"""The consent desk: signs what patients allow, and what they take back."""

import os
import time
from typing import Any

import httpx

from qepa_uplink.enrolment import CONSENT_CONTEXT, WITHDRAWAL_CONTEXT, SignedWithdrawal, Withdrawal
from qepa_uplink.identity import Identity
from qepa_uplink.messages import Consent, Purpose, SignedConsent

from ..errors import ToolError
from ..orders import why

_CLOCK_SKEW_S = 60


class ConsentDesk:
    """Speaks to the server for the patients."""

    def __init__(self, identity: Identity, http: httpx.AsyncClient) -> None:
        self._identity, self._http = identity, http

    async def consent(self, patient: str, boards: tuple[int, ...], *, valid_s: int, purpose: Purpose = "care") -> bytes:
        """Post a consent for ``patient``'s boards and return its id, which a withdrawal names.

        Raises ToolError with the server's reason where it refuses, or where it cannot be reached.
        """
        now_s = int(time.time())
        consent = Consent(
            consent_id=os.urandom(16),
            patient=patient,
            purpose=purpose,
            boards=boards,
            not_before_s=now_s - _CLOCK_SKEW_S,
            not_after_s=now_s + valid_s,
        )
        signed = SignedConsent.of(consent, self._identity, CONSENT_CONTEXT)
        await self._post("/v1/consents", signed.model_dump_json())
        return consent.consent_id

    async def withdraw(self, consent_id: bytes) -> None:
        """Post the withdrawal of a consent. Raises ToolError as :meth:`consent` does."""
        signed = SignedWithdrawal.of(Withdrawal(consent_id=consent_id), self._identity, WITHDRAWAL_CONTEXT)
        await self._post("/v1/withdrawals", signed.model_dump_json())

    async def signed(self, patient: str) -> list[dict[str, Any]]:
        """All that ``patient`` ever signed (`GET /v1/consents`)."""
        response = await self._ask("GET", "/v1/consents", params={"patient": patient})
        consents: list[dict[str, Any]] = response.json()["consents"]
        return consents

    async def boards_of(self, patient: str) -> tuple[int, ...]:
        """The boards that the server knows of ``patient``."""
        state = (await self._ask("GET", "/api/state")).json()
        return tuple(int(board["board"], 16) for board in state["boards"] if board["patient"] == patient)

    async def _post(self, path: str, content: str) -> None:
        await self._ask("POST", path, content=content)

    async def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise ToolError(f"the server cannot be reached: {error}") from error
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise ToolError(f"the server refused {path}: {why(response)}")
        return response
