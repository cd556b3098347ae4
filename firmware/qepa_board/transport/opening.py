"""The connection that an identity asks for. Only its own modules are loaded."""

from qepa_wire.topics import board_down, board_up


def open_connection(identity, flash, source, sink, clock):
    """A Connection or BleConnection; its run() opens it. source, sink and clock are as Connection has them."""
    if identity.transport == "ble":
        from .ble_connection import BleConnection  # noqa: PLC0415
        from .bonds import Bonds  # noqa: PLC0415

        return BleConnection(identity.board, source, sink, clock, Bonds(flash), identity.ble_passkey)
    from .connection import Connection  # noqa: PLC0415

    tls = None
    if identity.broker_tls is not None:
        from .broker_tls import BrokerTls  # noqa: PLC0415

        tls = BrokerTls(*identity.broker_tls)
    return Connection(
        identity.broker_host,
        identity.broker_port,
        "qepa-%08x" % identity.board,
        board_up(identity.gateway, identity.board),
        board_down(identity.gateway, identity.board),
        source,
        sink,
        clock,
        identity.broker_user,
        identity.broker_password,
        tls,
    )
