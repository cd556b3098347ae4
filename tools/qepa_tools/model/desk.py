"""The release desk: reads the server's lines of models, signs what a person orders about them."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import httpx

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity
from qepa_uplink.releases import MAX_CARD, ORDER_CONTEXT, ModelOrder, SignedModelOrder

from ..errors import ToolError

_TIMEOUT_S = 60
Json = dict[str, Any]


class ReleaseDesk:
    """One server. Without an ``identity`` (role release) it can only look. Raises ToolError throughout."""

    def __init__(self, server: str, identity: Path | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=server, timeout=_TIMEOUT_S, transport=transport)
        self._identity_file = identity

    def lines(self) -> list[Json]:
        """The newest version of each line, and how far it is at each gateway."""
        found: list[Json] = self._ask("GET", "/api/models").json()["models"]
        return found

    def card(self, name: str, version: int = 0) -> Json:
        """One version with its card; 0 is the newest."""
        found: Json = self._ask("GET", f"/api/models/{name}/{version}").json()
        return found

    def page(self, name: str, version: int = 0) -> str:
        """The same card as a page to read (Markdown)."""
        return self._ask("GET", f"/api/models/{name}/{version}/card.md").text

    def history(self, name: str) -> list[Json]:
        """The newest versions of a line, newest first."""
        found: list[Json] = self._ask("GET", f"/api/models/{name}").json()["versions"]
        return found

    def blob(self, name: str, version: int = 0) -> bytes:
        """What a version computes with."""
        return self._ask("GET", f"/api/models/{name}/{version}/blob").content

    def push(self, name: str, blob: bytes, card: Mapping[str, Any], reason: str = "") -> Json:
        """Sign a model and hand it to the server, which tries it on one board or gateway first."""
        text = json.dumps(card, separators=(",", ":"))
        if len(text) > MAX_CARD:
            raise ToolError(f"the card has {len(text)} characters, more than {MAX_CARD}.")
        return self._order("push", name, blob=blob, card=text, reason=reason)

    def roll_back(self, name: str, to: int = 0, reason: str = "") -> Json:
        """Order that a line goes back, to the last version that held unless ``to`` names one."""
        return self._order("rollback", name, to=to, reason=reason)

    def _order(self, what: Literal["push", "rollback"], name: str, **fields: Any) -> Json:
        if self._identity_file is None:
            raise ToolError("an order about models has to be signed: name an identity of role release.")
        try:
            identity = Identity.load(self._identity_file)
            order = ModelOrder(what=what, name=name, signed_s=int(time.time()), nonce=os.urandom(16), **fields)
        except UplinkError as error:
            raise ToolError(f"{error}.") from error
        except ValueError as error:
            raise ToolError(f"this is no order about a model: {error}.") from error
        body = order.model_dump_json().encode()
        signed = SignedModelOrder(
            body=body, certificate=identity.certificate, signature=identity.sign(body, ORDER_CONTEXT)
        )
        made: Json = self._ask("POST", "/v1/models", content=signed.model_dump_json()).json()
        return made

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise ToolError(f"the server cannot be reached: {error}.") from error
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            raise ToolError(f"the server refuses: {_why(answer)}.")
        return answer


def _why(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
