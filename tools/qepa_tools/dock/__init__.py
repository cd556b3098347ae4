"""The key dock: enrols boards and loads quantum keys onto them over USB."""

from .dock import BoardSettings, BoardStatus, BrokerAccess, Cradle, Dock

__all__ = ["BoardSettings", "BoardStatus", "BrokerAccess", "Cradle", "Dock"]
