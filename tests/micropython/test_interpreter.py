"""One-shot runs: the port's gaps that the shims fill."""

import pytest


def test_prints_and_raises(wasm_run):
    assert wasm_run("import sys; print(sys.implementation.name)") == "micropython\n"
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        wasm_run("1 // 0")


def test_files_and_firmware_packages_are_there(wasm_run):
    out = wasm_run("import qepa_wire\nprint(open('/dir/x', 'rb').read())", {"dir/x": b"\x00\xff"})
    assert out == "b'\\x00\\xff'\n"


def test_aes_answers_the_vectors_of_fips_197_and_sp_800_38a(wasm_run):
    out = wasm_run("""
from cryptolib import aes
plain = bytes.fromhex("00112233445566778899aabbccddeeff")
print(aes(bytes(range(16)), 1).encrypt(plain).hex())
print(aes(bytes(range(32)), 1).encrypt(plain).hex())
print(aes(bytes(range(32)), 1).decrypt(bytes.fromhex("8ea2b7ca516745bfeafc49904b496089")) == plain)

key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
cbc = aes(key, 2, bytes(range(16)))
block = bytearray(plain[:16])
print(cbc.encrypt(block, block) is block, block.hex(), cbc.encrypt(plain[16:]).hex())
ecb = aes(key, 1)
for misuse in (lambda: ecb.encrypt(b"short"), lambda: ecb.encrypt(plain) and ecb.decrypt(plain), lambda: aes(b"", 1)):
    try:
        misuse()
    except ValueError as error:
        print(error)
""")
    assert out.split("\n") == [
        "69c4e0d86a7b0430d8cdb78070b4c55a",
        "8ea2b7ca516745bfeafc49904b496089",
        "True",
        "True 7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2",
        "blksize % 16",
        "can't encrypt & decrypt",
        "key",
        "",
    ]


def test_urandom_is_no_constant(wasm_run):
    out = wasm_run("import os\nprint(os.urandom(16).hex(), os.urandom(16).hex(), len(os.urandom(0)))").split()
    assert len(out[0]) == 32
    assert out[0] != out[1]
    assert out[2] == "0"


def test_file_errors_have_the_numbers_of_a_board(wasm_run):
    out = wasm_run("""
import os
os.mkdir("/d")
open("/d/f", "w").close()
def number(f, *a):
    try:
        f(*a)
    except OSError as error:
        return error.errno
print(number(open, "/none"), number(os.mkdir, "/d"), number(os.rmdir, "/d"), number(os.stat, "/d/none"))
print(number(open, "/lib/qepa_wire/new.py", "w"), os.listdir("/d"))
""")
    assert out == "2 17 39 2\n30 ['f']\n"


def test_asyncio_runs_tasks_in_time_and_busy_tasks_do_not_starve_others(wasm_run):
    out = wasm_run("""
import asyncio, time
flag = asyncio.ThreadSafeFlag()
spins = 0
async def busy():
    global spins
    while not done:
        spins += 1
        await asyncio.sleep_ms(0)
async def main():
    global done
    asyncio.create_task(busy())
    start = time.ticks_ms()
    await asyncio.sleep_ms(30)
    took = time.ticks_diff(time.ticks_ms(), start)
    print(30 <= took < 200, spins > 10)
    flag.set()
    await flag.wait()
    try:
        await asyncio.wait_for_ms(flag.wait(), 10)
    except asyncio.TimeoutError:
        print("flag cleared itself")
    done = True
    start = time.ticks_ms()
    time.sleep_ms(15)
    print(time.ticks_diff(time.ticks_ms(), start) >= 15)
done = False
asyncio.run(main())
""")
    assert out == "True True\nflag cleared itself\nTrue\n"


def test_an_exception_in_the_main_task_is_reported(wasm_run):
    with pytest.raises(AssertionError, match="KeyError: lost"):
        wasm_run("import asyncio\nasync def main():\n    raise KeyError('lost')\nasyncio.run(main())")
