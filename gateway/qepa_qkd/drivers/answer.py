"""Waiting for a device's answer."""

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def answer_to(question: asyncio.Future[T], limit_s: float) -> T:
    """Return what `question` is answered with; raises TimeoutError, and what the future ends with.

    An answer that came in time is none too late because this program was busy; a cancellation always ends the wait.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await question
    except TimeoutError:
        if question.done() and not question.cancelled():
            return question.result()
        raise
