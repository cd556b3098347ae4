"""The release desk: reads the server's lines of models, signs what a person orders about them."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from qepa_uplink.releases import MAX_CARD, ModelOrder

from ..errors import ToolError
from ..orders import Json, OrderDesk


class ReleaseDesk(OrderDesk):
    """Models at one server. Raises ToolError throughout."""

    def lines(self) -> list[Json]:
        """The newest version of each line, and how far it is at each gateway."""
        found: list[Json] = self.ask("GET", "/api/models").json()["models"]
        return found

    def card(self, name: str, version: int = 0) -> Json:
        """One version with its card; 0 is the newest."""
        found: Json = self.ask("GET", f"/api/models/{name}/{version}").json()
        return found

    def page(self, name: str, version: int = 0) -> str:
        """The same card as a page to read (Markdown)."""
        return self.ask("GET", f"/api/models/{name}/{version}/card.md").text

    def history(self, name: str) -> list[Json]:
        """The newest versions of a line, newest first."""
        found: list[Json] = self.ask("GET", f"/api/models/{name}").json()["versions"]
        return found

    def blob(self, name: str, version: int = 0) -> bytes:
        """What a version computes with."""
        return self.ask("GET", f"/api/models/{name}/{version}/blob").content

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
        return self.post("/v1/models", self.sign(ModelOrder, what=what, name=name, **fields))
