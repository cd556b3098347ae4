"""An answer that came in time counts, and a cancellation always does."""

import asyncio
import time

import pytest

from qepa_qkd.drivers.answer import answer_to
from qepa_qkd.errors import TransientError


def asked() -> tuple["asyncio.Future[str]", "asyncio.Task[str]"]:
    question: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return question, asyncio.create_task(answer_to(question, 0.05))


async def test_an_answer_is_returned_and_none_is_a_timeout():
    question, task = asked()
    await asyncio.sleep(0)
    question.set_result("OK")
    assert await task == "OK"
    question, task = asked()
    with pytest.raises(TimeoutError):
        await task
    assert question.cancelled()


async def test_a_cancellation_that_comes_with_the_answer_ends_the_wait():
    question, task = asked()
    await asyncio.sleep(0)
    question.set_result("OK")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_is_not_late_because_the_program_was_busy():
    question, task = asked()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(question.set_result, "OK")
    time.sleep(0.2)  # answer and limit are found together
    assert await task == "OK"


async def test_a_lost_port_ends_the_wait():
    question, task = asked()
    await asyncio.sleep(0)
    question.set_exception(TransientError("gone"))
    with pytest.raises(TransientError, match="gone"):
        await task
