"""Which gateways and patients are there for a round, and what each gateway was told of its boards."""

from collections.abc import Callable

from qepa_uplink.messages import Adopted, Status, Welcome

from ..enrolment.register import BoardRegister
from ..privacy.office import PrivacyOffice
from ..robust.quarantine import GATEWAY, Quarantine
from ..sessions.hub import GatewayHub
from ..sessions.presence import Presence

_WELCOME_AGAIN_MS = 10_000


class Ward:
    """Answers from what is known of sessions, heartbeats, the register and quarantines."""

    def __init__(
        self,
        *,
        hub: GatewayHub,
        presence: Presence,
        register: BoardRegister,
        quarantine: Quarantine,
        privacy: PrivacyOffice,
        clock_ms: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._register = register
        self._quarantine = quarantine
        self._privacy = privacy
        self._clock_ms = clock_ms
        self._welcomed_ms: dict[str, int] = {}
        self._told: dict[str, tuple[Adopted, ...]] = {}

    def present(self) -> frozenset[str]:
        """Gateways with a session that were heard lately and may take part in rounds."""
        now_ms = self._clock_ms()
        return frozenset(
            name
            for name in self._hub.connected
            if self._presence.online(name, now_ms) and not self._quarantine.holds(GATEWAY, name)
        )

    def concerned(self) -> frozenset[str]:
        """Those of :meth:`present` that have boards."""
        return frozenset(name for name in self.present() if self._register.of_gateway(name))

    def prepared(self) -> tuple[int, int]:
        """Return (gateways with online boards, patients with an online board)."""
        now_ms = self._clock_ms()
        gateways = 0
        patients: set[str] = set()
        for name in self.present():
            online = self._presence.boards(name, now_ms)
            gateways += bool(online)
            patients |= {b.patient for b in self._register.of_gateway(name) if b.board in online}
        return gateways, len(patients)

    def welcome(self, gateway: str) -> None:
        """Tell a gateway which boards it serves, and which of them have no part in a stream."""
        boards = self._adopted(gateway)
        self._welcomed_ms[gateway] = self._clock_ms()
        if self._hub.seal(gateway, Welcome(boards=boards)):
            self._told[gateway] = boards

    def tell_parts(self) -> None:
        """Tell gateways which of their boards have no part in a stream; again where it is so already."""
        for gateway in self.present():
            boards = self._adopted(gateway)
            if self._told.get(gateway) != boards or any(board.barred for board in boards):
                self.welcome(gateway)

    def on_status(self, gateway: str, status: Status) -> None:
        """Welcome a gateway again that serves other boards than it should: the broker has lost the last Welcome."""
        wanted = {board.board for board in self._register.of_gateway(gateway)}
        due = not 0 <= self._clock_ms() - self._welcomed_ms.get(gateway, 0) < _WELCOME_AGAIN_MS
        if due and wanted != {item.board for item in status.boards}:
            self.welcome(gateway)

    def _adopted(self, gateway: str) -> tuple[Adopted, ...]:
        now_ms = self._clock_ms()
        return tuple(
            Adopted(board=board.board, patient=board.patient, barred=self._privacy.barred(board, now_ms))
            for board in self._register.of_gateway(gateway)
        )
