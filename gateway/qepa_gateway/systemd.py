"""What systemd wants to hear from a unit of Type=notify (sd_notify(3)): one datagram to the socket in NOTIFY_SOCKET."""

import logging
import os
import socket

_LOG = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send ``state``, such as "READY=1", if systemd started us. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        try:
            door.sendto(state.encode(), address)
        except OSError as error:
            _LOG.warning("sd_notify failed error=%s", error)
