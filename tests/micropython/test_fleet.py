"""Virtual boards: what firmware, ward and fault tests rely on."""

import asyncio
import struct
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from qepa_tools.fleet.events import Boot, Exit, Log, Pace, Probe, ProgramError
from qepa_tools.fleet.fleet import BoardError, BoardSpec, Ecg, Fleet
from qepa_tools.fleet.runtime import FleetError

BOARD = "0000002a"
COUNTS = [(7 * n) % 4096 * 16 for n in range(1000)]

# Keeps every sample; feeds the watchdog unless told not to.
RING = """
import asyncio, machine
from machine import ADC, Pin, Timer, WDT
seen = []
adc = ADC(Pin(34))
wdt = WDT(timeout=60000)
def sample(timer):
    seen.append(adc.read_u16())
timer = Timer(0, freq=360, callback=sample)
feeding = True
async def main():
    while True:
        if feeding:
            wdt.feed()
        await asyncio.sleep_ms(10)
asyncio.run(main())
"""


def spec(tmp_path: Path, board: str = BOARD, **settings) -> BoardSpec:
    return BoardSpec(board=board, flash=tmp_path / board, **settings)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "record.u16"
    path.write_bytes(struct.pack(f"<{len(COUNTS)}H", *COUNTS))
    return path


@asynccontextmanager
async def watching(fleet: Fleet):
    """Collects events, and waits until one satisfies a condition."""
    seen = []
    news = asyncio.Condition()

    events = fleet.events()

    async def collect():
        async for event in events:
            async with news:
                seen.append(event)
                news.notify_all()

    async def until(condition, timeout_s=100):
        try:
            async with asyncio.timeout(timeout_s), news:
                await news.wait_for(lambda: any(condition(event) for event in seen))
        except TimeoutError:
            pytest.fail(f"did not happen; seen: {seen}")
        return next(event for event in seen if condition(event))

    task = asyncio.create_task(collect())
    try:
        yield seen, until
    finally:
        task.cancel()


async def until_true(fleet: Fleet, expression: str, board: str = BOARD) -> None:
    async with asyncio.timeout(100):
        while await fleet.exec(board, f"print({expression})") != "True\n":
            await asyncio.sleep(0.05)


async def test_boot_program_log_and_exec(fleet, tmp_path):
    async with watching(fleet) as (_, until):
        boot = await fleet.start_board(spec(tmp_path, main="x = 6\nprint('up\\nand running')"))
        assert boot == Boot(BOARD, 0, "power on")
        await until(lambda e: e == Log(BOARD, "and running"))
    assert await fleet.exec(BOARD, "x *= 7\nprint(x)\nprint('no newline', end='')") == "42\nno newline"
    with pytest.raises(BoardError, match="NameError"):
        await fleet.exec(BOARD, "print(y)")
    out = await fleet.exec(BOARD, "import machine\nprint(machine.unique_id(), machine.reset_cause())")
    assert out == "b'\\x00\\x00\\x00*' 1\n"


async def test_nonsense_is_refused_in_one_sentence(fleet, tmp_path):
    with pytest.raises(FleetError, match="not running"):
        await fleet.kill(BOARD)
    with pytest.raises(BoardError, match="not running"):
        await fleet.exec(BOARD, "1")
    await fleet.start_board(spec(tmp_path, main=""))
    with pytest.raises(FleetError, match="already running"):
        await fleet.start_board(spec(tmp_path, main=""))
    with pytest.raises(FleetError, match="hexadecimal"):
        spec(tmp_path, board="../../x0")
    with pytest.raises(FleetError, match="missing or empty"):
        spec(tmp_path, ecg=Ecg(path=tmp_path / "none"))


async def test_a_failing_program_is_reported_and_the_board_still_answers(fleet, tmp_path):
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main="1 // 0"))
        error = await until(lambda e: isinstance(e, ProgramError))
    assert "ZeroDivisionError" in error.traceback
    assert await fleet.exec(BOARD, "print(1)") == "1\n"


async def test_a_flash_keeps_what_was_closed_before_the_power_cut(fleet, tmp_path):
    await fleet.start_board(spec(tmp_path, main=""))
    await fleet.exec(
        BOARD,
        """
import os
os.mkdir("/keys")
def put(name, text, mode="w"):
    with open(name, mode) as file:
        file.write(text)
put("/keys/closed", "kept")
put("/keys/grown", "one"); put("/keys/grown", "two", "a")
put("/keys/new", "renamed"); put("/keys/old", "stale"); os.rename("/keys/new", "/keys/old")
put("/keys/gone", "x"); os.remove("/keys/gone")
os.mkdir("/empty"); os.rmdir("/empty")
put("/keys/rewritten", "before")
open("/keys/touched", "w").close()
flushed = open("/keys/flushed", "w"); flushed.write("first"); flushed.flush(); flushed.write("second")
half = open("/keys/rewritten", "w"); half.write("never closed")
fresh = open("/keys/unborn", "w"); fresh.write("never closed")
""",
    )
    await fleet.kill(BOARD)
    keys = {path.name: path.read_text() for path in (tmp_path / BOARD / "keys").iterdir()}
    assert keys == {
        "closed": "kept",
        "grown": "onetwo",
        "old": "renamed",
        "rewritten": "before",
        "touched": "",
        "flushed": "first",
    }
    await fleet.start_board(spec(tmp_path, main=""))
    out = await fleet.exec(
        BOARD,
        "import os\nprint(sorted(os.listdir('/keys')), open('/keys/rewritten').read(), os.stat('/keys/old')[6])",
    )
    assert out == "['closed', 'flushed', 'grown', 'old', 'rewritten', 'touched'] before 7\n"


async def test_main_py_of_the_flash_runs_and_imports_from_it(fleet, tmp_path):
    (tmp_path / BOARD).mkdir()
    (tmp_path / BOARD / "main.py").write_text("import own\nprint(own.NAME, __name__)")
    (tmp_path / BOARD / "own.py").write_text("NAME = 'from flash'")
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path))
        await until(lambda e: e == Log(BOARD, "from flash __main__"))


async def test_a_board_in_an_endless_loop_can_be_killed(fleet, tmp_path):
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main="print('looping')\nwhile True: pass"))
        await until(lambda e: e == Log(BOARD, "looping"))
        with pytest.raises(BoardError, match="did not finish"):
            await fleet.exec(BOARD, "1", timeout_s=0.2)
        pending = asyncio.create_task(fleet.exec(BOARD, "1"))
        await asyncio.sleep(0)
        await fleet.kill(BOARD)
        with pytest.raises(BoardError, match="went off: killed"):
            await pending
        await until(lambda e: e == Exit(BOARD, "killed"))


async def test_machine_reset_boots_again_with_its_cause(fleet, tmp_path):
    main = "import machine\nif machine.reset_cause() == machine.PWRON_RESET: machine.reset()\nprint('second life')"
    async with watching(fleet) as (seen, until):
        await fleet.start_board(spec(tmp_path, main=main))
        await until(lambda e: e == Log(BOARD, "second life"))
    assert [e for e in seen if isinstance(e, Boot | Exit)] == [
        Boot(BOARD, 0, "power on"),
        Exit(BOARD, "reset"),
        Boot(BOARD, 0, "reset"),
    ]


async def test_a_watchdog_that_is_not_fed_resets_the_board(fleet, tmp_path):
    main = "import machine\nwdt = machine.WDT(timeout=20)\nt = machine.Timer(0, freq=360, callback=lambda t: None)"
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main=main))
        await until(lambda e: e == Exit(BOARD, "watchdog"))
        await until(lambda e: e == Boot(BOARD, 0, "watchdog"))


async def test_a_board_that_hangs_before_its_first_sample_is_reset_too(fleet, tmp_path):
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main="import machine\nmachine.WDT(timeout=20)\nwhile True: pass"))
        await until(lambda e: e == Exit(BOARD, "watchdog"))


async def test_sockets_talk_to_a_real_server(fleet, tmp_path):
    async def echo(reader, writer):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    main = f"""
import asyncio, errno, select, socket
async def main():
    s = socket.socket()
    s.setblocking(False)
    try:
        s.connect(socket.getaddrinfo("localhost", {port})[0][-1])
    except OSError as error:
        print("connect", error.errno == errno.EINPROGRESS)
    poll = select.poll()
    poll.register(s, select.POLLOUT)
    while not poll.poll(0):
        await asyncio.sleep_ms(1)
    print("nothing yet", s.read(1))
    try:
        s.recv(1)
    except OSError as error:
        print("recv", error.errno == errno.EAGAIN)
    sent = bytes(n % 251 for n in range(40000))
    view, got, at = memoryview(sent), bytearray(), 0
    into = bytearray(1000)
    while len(got) < len(sent):
        if at < len(sent):
            at += s.write(view[at:]) or 0
        count = s.readinto(into)
        if count:
            got += into[:count]
        else:
            await asyncio.sleep_ms(1)
    print("echo", got == sent)
    s.close()
    refused = socket.socket()
    refused.setblocking(False)
    try:
        refused.connect(("127.0.0.1", 1))
    except OSError:
        pass
    for _ in range(1000):
        await asyncio.sleep_ms(1)
        try:
            refused.write(b"x")
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                print("refused", error.errno == errno.ECONNREFUSED)
                break
    print("end")
asyncio.run(main())
"""
    async with server, watching(fleet) as (seen, until):
        await fleet.start_board(spec(tmp_path, main=main))
        await until(lambda e: e == Log(BOARD, "end") or isinstance(e, ProgramError))
    lines = [e.line for e in seen if isinstance(e, Log)]
    assert lines == [
        "connect True",
        "nothing yet None",
        "recv True",
        "echo True",
        "refused True",
        "end",
    ], seen


async def test_a_peer_that_closes_reads_as_the_end(fleet, tmp_path):
    async def bye(_reader, writer):
        writer.write(b"bye")
        writer.close()

    server = await asyncio.start_server(bye, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    main = f"""
import asyncio, socket
async def main():
    s = socket.socket()
    s.setblocking(False)
    try:
        s.connect(("127.0.0.1", {port}))
    except OSError:
        pass
    got = b""
    while True:
        part = s.read(10)
        if part == b"":
            break
        got += part or b""
        await asyncio.sleep_ms(1)
    print(got)
asyncio.run(main())
"""
    async with server, watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main=main))
        await until(lambda e: e == Log(BOARD, "b'bye'"))


async def test_every_sample_arrives_once_in_order_and_the_record_replays(fleet, tmp_path, record):
    ecg = Ecg(path=record, index=990)
    boot = await fleet.start_board(spec(tmp_path, main=RING, ecg=ecg, speed=8.0))
    assert boot.ecg_index == 990
    await until_true(fleet, "len(seen) > 2500")
    seen = eval(await fleet.exec(BOARD, "print(seen)"))  # noqa: S307  a list of integers, ours
    assert seen == [COUNTS[(990 + n) % len(COUNTS)] for n in range(len(seen))]


async def test_timers_keep_their_rates_on_the_records_clock(fleet, tmp_path):
    main = """
import asyncio, machine
fast = slow = once = base = 0
def count_fast(t):
    global fast
    fast += 1
def count_slow(t):
    global slow
    slow += 1
def count_once(t):
    global once
    once += 1
def count_base(t):
    global base
    base += 1
    wdt.feed()
wdt = machine.WDT(timeout=60000)
timers = [machine.Timer(0, freq=360, callback=count_base), machine.Timer(1, freq=1000, callback=count_fast),
    machine.Timer(2, period=100, callback=count_slow),
    machine.Timer(3, period=50, mode=machine.Timer.ONE_SHOT, callback=count_once)]
"""
    await fleet.start_board(spec(tmp_path, main=main, speed=8.0))
    await until_true(fleet, "base > 2000")
    base, fast, slow, once = eval(await fleet.exec(BOARD, "print((base, fast, slow, once))"))  # noqa: S307
    assert fast == base * 1000 // 360
    assert slow == base // 36
    assert once == 1
    await fleet.exec(BOARD, "for t in timers: t.deinit()\nlast = base")
    await asyncio.sleep(0.2)
    assert await fleet.exec(BOARD, "print(base == last)") == "True\n"


async def test_a_program_that_never_feeds_gets_half_a_second_of_samples(fleet, tmp_path, record):
    main = RING.replace("feeding = True", "feeding = False")
    await fleet.start_board(spec(tmp_path, main=main, ecg=Ecg(path=record), speed=4.0))
    await until_true(fleet, "len(seen) == 180")
    await asyncio.sleep(0.5)
    assert await fleet.exec(BOARD, "print(len(seen))") == "180\n"
    await fleet.exec(BOARD, "feeding = True")
    await until_true(fleet, "len(seen) > 1000")
    seen = eval(await fleet.exec(BOARD, "print(seen)"))  # noqa: S307
    assert seen == [COUNTS[n % len(COUNTS)] for n in range(len(seen))], "lost nothing while it hung"


async def test_the_ward_waits_for_a_slow_board_and_says_so(fleet, tmp_path, record):
    # Feeding every 250 ms allows 720 samples a second: twice real time, not eight times.
    main = RING.replace("sleep_ms(10)", "sleep_ms(250)")
    ecg = Ecg(path=record)
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main=main, ecg=ecg, speed=8.0))
        await fleet.start_board(spec(tmp_path, board="0000002b", main=RING, ecg=ecg, speed=8.0))
        first = await until(lambda e: isinstance(e, Pace) and e.lagging and e.samples.get("0000002b", 0) > 0)
        last = await until(
            lambda e: isinstance(e, Pace) and e.lagging and e.samples[BOARD] > first.samples[BOARD] + 720
        )
    assert last.asked == 8.0
    assert 0 < last.real < 2.5
    slow, fast = (last.samples[board] - first.samples[board] for board in (BOARD, "0000002b"))
    assert abs(fast - slow) <= 360, "the ward keeps one clock, from which a board is at most half a second away"


async def test_pace_is_kept_where_the_machine_can(fleet, tmp_path, record):
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main=RING, ecg=Ecg(path=record), speed=2.0))
        await until(lambda e: isinstance(e, Pace) and e.samples.get(BOARD, 0) > 500 and not e.lagging)


async def test_the_persons_heart_beats_on_while_the_board_is_off(fleet, tmp_path, record):
    board = spec(tmp_path, main=RING, ecg=Ecg(path=record, index=5), speed=1.0)
    before_s = time.monotonic()
    await fleet.start_board(board)
    started_s = time.monotonic()
    await asyncio.sleep(0.5)
    await fleet.kill(BOARD)
    await asyncio.sleep(0.5)
    least, boot = 360 * (time.monotonic() - started_s), await fleet.start_board(board)
    assert 0.4 * least < boot.ecg_index - 5 <= 360 * (time.monotonic() - before_s) + 60
    await until_true(fleet, "len(seen) > 10")
    first = int(await fleet.exec(BOARD, "print(seen[0])"))
    assert first == COUNTS[boot.ecg_index % len(COUNTS)]


async def test_lead_off_is_seen_at_the_pins_and_in_the_signal(fleet, tmp_path, record):
    await fleet.start_board(spec(tmp_path, main=RING, ecg=Ecg(path=record), speed=4.0))
    await fleet.exec(BOARD, "lead = Pin(32, Pin.IN)")
    await until_true(fleet, "len(seen) > 10 and lead.value() == 0")
    await fleet.lead_off(BOARD, on=True)
    await until_true(fleet, "lead.value() == 1 and seen[-1] == 65535")
    await fleet.lead_off(BOARD, on=False)
    await until_true(fleet, "lead.value() == 0 and seen[-1] != 65535")


async def test_a_probe_sees_plaintexts_without_touching_the_firmware(fleet, tmp_path):
    package = tmp_path / "secretive"
    package.mkdir()
    (package / "__init__.py").write_text("def seal(words):\n    return [w ^ 255 for w in words]\n")
    probe = """
import _host, json, secretive
def wrapped(words, seal=secretive.seal):
    _host.probe(json.dumps({"words": words}))
    return seal(words)
secretive.seal = wrapped
"""
    main = "import secretive\nprint(secretive.seal([1, 2**40]), 'wrapped' in globals())"
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main=main, probe=probe, firmware=(package,)))
        await until(lambda e: e == Log(BOARD, "[254, 1099511628031] False"))
        await until(lambda e: e == Probe(BOARD, {"words": [1, 2**40]}))


async def test_twelve_boards_run_at_once_each_with_its_own_memory(fleet, tmp_path, record):
    boards = [f"{n:08x}" for n in range(12)]
    ecgs = {board: Ecg(path=record, index=n * 80) for n, board in enumerate(boards)}
    await asyncio.gather(*(fleet.start_board(spec(tmp_path, b, main=RING, ecg=ecgs[b], speed=2.0)) for b in boards))
    for n, board in enumerate(boards):
        await until_true(fleet, "len(seen) > 0", board)
        out = await fleet.exec(board, "print(seen[0], machine.unique_id().hex())")
        assert out == f"{COUNTS[n * 80]} {board}\n"


async def test_node_dying_is_one_clear_error(tmp_path, runtime):
    async with Fleet(runtime=runtime) as fleet:
        await fleet.start_board(spec(tmp_path, main=""))
        fleet._process.kill()
        with pytest.raises(FleetError, match=r"node (ended unexpectedly|has ended)"):
            await fleet.exec(BOARD, "import time\ntime.sleep(5)")
        with pytest.raises(FleetError):
            await fleet.exec(BOARD, "1")


async def test_stopping_leaves_no_process(tmp_path, runtime):
    async with Fleet(runtime=runtime) as fleet:
        await fleet.start_board(spec(tmp_path, main="while True: pass"))
        pid = fleet.pid
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(FleetError, match="has stopped"):
        await fleet.exec(BOARD, "1")


async def test_no_board_outlives_a_controller_that_is_killed(tmp_path, runtime):
    controller = f"""
import asyncio
from pathlib import Path
from qepa_tools.fleet.fleet import BoardSpec, Fleet
async def main():
    async with Fleet(runtime=Path({str(runtime)!r})) as fleet:
        await fleet.start_board(BoardSpec(board={BOARD!r}, flash=Path({str(tmp_path)!r}), main="while True: pass"))
        print(fleet.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", controller, stdout=asyncio.subprocess.PIPE)
    node = int(await process.stdout.readline())
    process.kill()
    await process.wait()
    async with asyncio.timeout(100):
        while psutil.pid_exists(node) and psutil.Process(node).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)


async def test_timer_callbacks_may_schedule_and_set_flags(fleet, tmp_path):
    main = """
import asyncio, machine, micropython
wdt = machine.WDT(timeout=60000)
flag = asyncio.ThreadSafeFlag()
scheduled = blocks = callbacks = 0
def later(n):
    global scheduled
    scheduled += 1
def sample(timer):
    global callbacks
    callbacks += 1
    if callbacks % 36 == 0:
        micropython.schedule(later, 0)
        flag.set()
async def main():
    global blocks
    while True:
        await flag.wait()
        blocks += 1
        wdt.feed()
timer = machine.Timer(0, freq=360, callback=sample)
asyncio.run(main())
"""
    await fleet.start_board(spec(tmp_path, main=main, speed=4.0))
    await until_true(fleet, "blocks > 10 and scheduled > 10")
    callbacks, scheduled = eval(await fleet.exec(BOARD, "print((callbacks, scheduled))"))  # noqa: S307
    assert scheduled == callbacks // 36


async def test_a_failing_callback_is_logged_and_its_timer_goes_on(fleet, tmp_path):
    main = RING.replace("seen.append(adc.read_u16())", "seen.append(1)\n    if len(seen) == 50: 1 // 0")
    async with watching(fleet) as (_, until):
        await fleet.start_board(spec(tmp_path, main=main, speed=4.0))
        await until(lambda e: isinstance(e, Log) and "ZeroDivisionError" in e.line)
        await until_true(fleet, "len(seen) > 400")
