"""Boards over Bluetooth LE. Decisions are pure (``roster``, ``channel``); only ``bleak_radio`` knows bleak."""
