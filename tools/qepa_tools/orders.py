"""What a person orders from the server: signed here with keys of role ``release``, and posted."""

import os
import time
from pathlib import Path
from typing import Any

import httpx

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity
from qepa_uplink.messages import Message
from qepa_uplink.releases import Order, SignedOrder, sign_order

from .errors import ToolError

_TIMEOUT_S = 60
Json = dict[str, Any]


class OrderDesk:
    """One server. Without an ``identity`` (role release) it can only look. Raises ToolError throughout."""

    def __init__(self, server: str, identity: Path | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=server, timeout=_TIMEOUT_S, transport=transport)
        self._identity_file = identity

    def sign(self, kind: type[Order], /, **fields: Any) -> SignedOrder:
        """Sign an order of this kind, as of now."""
        if self._identity_file is None:
            raise ToolError("an order has to be signed: name an identity of role release.")
        try:
            person = Identity.load(self._identity_file)
            return sign_order(person, kind(signed_s=int(time.time()), nonce=os.urandom(16), **fields))
        except UplinkError as error:
            raise ToolError(f"{error}.") from error
        except ValueError as error:
            raise ToolError(f"this cannot be ordered: {error}.") from error

    def post(self, path: str, signed: Message) -> Json:
        """Hand an order to the server; what came of it."""
        made: Json = self.ask("POST", path, content=signed.model_dump_json()).json()
        return made

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        """The server's answer, which is no refusal."""
        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise ToolError(f"the server cannot be reached: {error}.") from error
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            raise ToolError(f"the server refuses: {why(answer)}.")
        return answer


def why(answer: httpx.Response) -> str:
    """Say in the server's words why it refuses."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
