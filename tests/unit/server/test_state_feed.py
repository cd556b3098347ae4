"""Who watches the ward gets its state each second, and many who watch cost the server no more than one."""

import asyncio

from qepa_server.api.feed import Feed


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


async def test_all_who_watch_share_a_reading_and_none_sees_an_old_one():
    clock, read = Clock(), []

    def text():
        read.append(clock.now_s)
        return str(len(read))

    feed = Feed(text, asyncio.Event(), clock=clock)
    assert {feed.latest() for _ in range(20)} == {"data: 1\n\n"}
    clock.now_s += 0.4
    assert feed.latest() == "data: 1\n\n"
    clock.now_s += 0.6
    assert {feed.latest() for _ in range(20)} == {"data: 2\n\n"}
    assert len(read) == 2


async def test_it_ends_when_the_server_stops():
    stopping = asyncio.Event()
    feed = Feed(lambda: "{}", stopping)
    seen = []
    async for event in feed.events():
        seen.append(event)
        stopping.set()
    assert seen == ["data: {}\n\n"]
