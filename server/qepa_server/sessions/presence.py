"""What gateways last said of themselves and their boards."""

from dataclasses import dataclass

from qepa_uplink.messages import BoardStatus, Status

ONLINE_MS = 15_000


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A Status with the server's time of receipt."""

    status: Status
    received_ms: int


class Presence:
    """The newest heartbeat of each gateway."""

    def __init__(self) -> None:
        self._heartbeats: dict[str, Heartbeat] = {}

    def note(self, gateway: str, status: Status, now_ms: int) -> None:
        """Take in a heartbeat."""
        self._heartbeats[gateway] = Heartbeat(status, now_ms)

    def last(self, gateway: str) -> Heartbeat | None:
        """The newest heartbeat of ``gateway``."""
        return self._heartbeats.get(gateway)

    def online(self, gateway: str, now_ms: int) -> bool:
        """Tell whether ``gateway`` was heard in the last 15 s."""
        heartbeat = self._heartbeats.get(gateway)
        return heartbeat is not None and abs(now_ms - heartbeat.received_ms) <= ONLINE_MS

    def boards(self, gateway: str, now_ms: int) -> dict[int, BoardStatus]:
        """Boards that an online ``gateway`` reports as online."""
        heartbeat = self._heartbeats.get(gateway)
        if heartbeat is None or not self.online(gateway, now_ms):
            return {}
        return {board.board: board for board in heartbeat.status.boards if board.online}
