"""Why the gateway is not as it should be, in one-word reasons for /healthz and metrics."""

from .core import Gateway
from .domain.storage import Room

REASONS = {
    "broker": "no connection to the broker",
    "bluetooth": "the Bluetooth adapter does not scan",
    "server": "the server does not answer",
    "kme": "the key-management entity does not answer",
    "threat": "the optical link raised an alarm lately",
    "disk_short": "the disk is nearly full: only alerts are stored",
    "disk_full": "the disk is full: nothing is stored",
    "dropped": "results were dropped because the server was away for too long",
    "boards_silent": "no board is heard although some are expected",
    "audit": "the server's audit log went back or was rewritten",
    "no_runtime": "neither ai-edge-litert nor tflite-runtime is installed: no findings of models at the bedside",
    "rollout": "a release was withdrawn: no board confirmed it",
}


def faults(gateway: Gateway) -> tuple[str, ...]:
    """Reasons that the core knows of; those of transports and silence are the daemon's."""
    link = gateway.optical_link
    found = (
        ("server", gateway.link.away),
        ("kme", link is not None and link.rekey_s is None),
        ("threat", link is not None and link.threat_level != "normal"),
        ("disk_short", gateway.room is Room.ALERTS),
        ("disk_full", gateway.room is Room.NONE),
        ("audit", bool(gateway.audit.refused)),
        ("rollout", gateway.models.rollout.withdrawn or gateway.firmware.withdrawn),
        ("no_runtime", gateway.lacks_runtime),
        ("dropped", gateway.link.outbox.dropped > 0),
    )
    return tuple(reason for reason, holds in found if holds)
