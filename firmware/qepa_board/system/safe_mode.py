"""What runs when the application crashed too often: it samples nothing, and says HELLO in safe mode to its gateway.

The console stays free: whatever fails here ends in the REPL, no watchdog runs, and the dock can interrupt it.
"""

import asyncio

from .flash import Flash


async def _run():
    from ..app import App, Clock  # noqa: PLC0415  if it does not even load, the loader says so
    from ..keys.identity import load_identity  # noqa: PLC0415

    flash = Flash()
    identity = load_identity(flash)
    if identity is None:
        return
    app = App.running = App(flash, identity, Clock())
    app.open_connection()
    await asyncio.gather(app.supervise("key", app.keep_key), app.supervise("connect", app.connect))


def run():
    """Tell the gateway, for as long as nobody interrupts it. A power cycle or the dock ends safe mode."""
    asyncio.run(_run())
