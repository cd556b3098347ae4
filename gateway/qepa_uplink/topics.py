"""MQTT topics between gateways and server. The broker is transport only: it sees sizes and times."""

VERSION = 1


def to_server(gateway: str) -> str:
    """Topic on which ``gateway`` speaks to the server."""
    return f"qepa/{VERSION}/server/{gateway}"


TO_SERVER_ALL = f"qepa/{VERSION}/server/+"


def to_gateway(gateway: str) -> str:
    """Topic on which the server and other gateways speak to ``gateway``."""
    return f"qepa/{VERSION}/gateway/{gateway}"
