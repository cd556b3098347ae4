"""The consent desk: signs patients' consents to live monitoring, and their withdrawal."""

import os
import time

import httpx

from qepa_uplink.enrolment import CONSENT_CONTEXT, WITHDRAWAL_CONTEXT, SignedWithdrawal, Withdrawal
from qepa_uplink.identity import Identity
from qepa_uplink.messages import Consent, SignedConsent

from ..errors import ToolError

_CLOCK_SKEW_S = 60


class ConsentDesk:
    """Speaks to the server for the patients."""

    def __init__(self, identity: Identity, http: httpx.AsyncClient) -> None:
        self._identity, self._http = identity, http

    async def consent(self, patient: str, boards: tuple[int, ...], *, valid_s: int) -> bytes:
        """Post a consent for ``patient``'s boards and return its id."""
        now_s = int(time.time())
        consent = Consent(
            consent_id=os.urandom(16),
            patient=patient,
            boards=boards,
            not_before_s=now_s - _CLOCK_SKEW_S,
            not_after_s=now_s + valid_s,
        )
        body = consent.model_dump_json().encode()
        signed = SignedConsent(
            body=body,
            certificate=self._identity.certificate,
            signature=self._identity.sign(body, CONSENT_CONTEXT),
        )
        await self._post("/v1/consents", signed.model_dump_json())
        return consent.consent_id

    async def withdraw(self, consent_id: bytes) -> None:
        """Post the withdrawal of a consent."""
        body = Withdrawal(consent_id=consent_id).model_dump_json().encode()
        signed = SignedWithdrawal(
            body=body,
            certificate=self._identity.certificate,
            signature=self._identity.sign(body, WITHDRAWAL_CONTEXT),
        )
        await self._post("/v1/withdrawals", signed.model_dump_json())

    async def _post(self, path: str, content: str) -> None:
        response = await self._http.post(path, content=content)
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise ToolError(f"the server refused {path}: {response.text[:200]}")
