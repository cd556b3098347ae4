"""MQTT topics between a board and its gateway."""


def board_up(gateway: str, board: int) -> str:
    """Topic on which board number ``board`` publishes frames for ``gateway``."""
    return "qepa/1/board/%s/%08x/up" % (gateway, board)


def board_down(gateway: str, board: int) -> str:
    """Topic on which ``gateway`` publishes frames for board number ``board``."""
    return "qepa/1/board/%s/%08x/down" % (gateway, board)


def all_boards_up(gateway: str) -> str:
    """Filter for the frames of all boards of ``gateway``."""
    return "qepa/1/board/%s/+/up" % gateway
