"""What can be wrong with a device, by what a caller can do about it."""

from qepa_qkd.errors import ProtocolError, TransientError


class PortError(TransientError):
    """The port cannot be opened, was unplugged or does not answer; it may come back."""


class NoPortError(PortError):
    """There is no such port, or it is none, or this user may not open it."""


class PortBusyError(PortError):
    """Another program has the port."""


class WrongDeviceError(ProtocolError):
    """Something else answers at this port."""


class WrongVersionError(ProtocolError):
    """The right kind of device speaks another version of its protocol."""


class RefusedError(ProtocolError):
    """The device refuses a command; the message has its reason."""


class TagStreamError(TransientError):
    """Time tags are lost or shifted beyond repair: the run is void, the next one may do."""
