"""What LightHE is compared with, each driven as its own documentation does; a peer that is not here says how to get it.

Flower's requirements do not fit beside ours, so `python -m qepa_tools.benchmarks.peers` gives it an environment of its
own beside this one.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..errors import ToolError
from .timing import median_s

FLOWER = "flwr==1.42.0"  # flower_secagg.py uses more than its documented interface
_NEIGHBOURS, _THRESHOLD = 9, 5
_SLOT_BITS = 32 + 5  # a 32-bit word and the carries of 30 additions
_PLAINTEXT_BITS = 2046
_BFV_MODULUS = 1032193  # a prime that is 1 mod 2 * 4096, for batching: sums up to half of it
_TIMEOUT_S = 600

Measured = dict[str, Any]


def measured(name: str, encrypt_s: float, add_s: float, open_s: float, size: int) -> Measured:
    """One row: milliseconds to encrypt one vector, to add all, to open the sum; bytes that a board sends."""
    times = {"encrypt_ms": encrypt_s * 1e3, "add_ms": add_s * 1e3, "open_ms": open_s * 1e3}
    return {"name": name, **times, "total_ms": sum(times.values()), "bytes": size}


def paillier(words: int, boards: int) -> list[Measured]:
    """python-paillier, 2048-bit keys: as many words in a ciphertext as there is room for, and one in each."""
    try:
        from phe import paillier as phe  # noqa: PLC0415  # a peer for this benchmark only
    except ImportError as error:
        raise ToolError("python-paillier is not installed: pip install phe gmpy2") from error
    with_gmp = "with GMP" if find_spec("gmpy2") else "without GMP (pip install gmpy2)"
    public, private = phe.generate_paillier_keypair(n_length=2048)
    ciphertext = public.encrypt(12345)
    size = (ciphertext.ciphertext().bit_length() + 7) // 8
    one = median_s(lambda: public.encrypt(12345), repetitions=3)
    added = median_s(lambda: ciphertext + ciphertext, repetitions=3)
    opened = median_s(lambda: private.decrypt(ciphertext), repetitions=3)
    packed = -(-words // (_PLAINTEXT_BITS // _SLOT_BITS))
    return [
        measured(name, n * one, n * (boards - 1) * added, n * opened, n * size)
        for name, n in (
            (f"Paillier 2048 {with_gmp}, packed into {packed}", packed),
            (f"Paillier 2048 {with_gmp}, a word each", words),
        )
    ]


def tenseal(values: Sequence[int], boards: int) -> list[Measured]:
    """TenSEAL at the smallest parameters (128-bit security) that give the sum, and CKKS at its tutorial's.

    In a process of its own: after TensorFlow was loaded in this one, its protobuf would crash TenSEAL's.
    """
    if find_spec("tenseal") is None:
        raise ToolError("TenSEAL is not installed: pip install tenseal")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_tenseal_rows, list(values), boards).result()


def _tenseal_rows(values: Sequence[int], boards: int) -> list[Measured]:
    import tenseal as ts  # noqa: PLC0415  # a peer for this benchmark only

    def ckks(degree: int, bits: list[int], scale: int) -> Any:
        context = ts.context(ts.SCHEME_TYPE.CKKS, poly_modulus_degree=degree, coeff_mod_bit_sizes=bits)
        context.global_scale = 2.0**scale
        return context

    small, usual = ckks(4096, [54, 54], 30), ckks(8192, [60, 40, 40, 60], 40)
    bfv = ts.context(ts.SCHEME_TYPE.BFV, poly_modulus_degree=4096, plain_modulus=_BFV_MODULUS)
    return [
        _tenseal("TenSEAL CKKS 4096, smallest", partial(ts.ckks_vector, small), values, boards),
        _tenseal("TenSEAL CKKS 8192, usual", partial(ts.ckks_vector, usual), values, boards),
        _tenseal("TenSEAL BFV 4096, 20-bit sums", partial(ts.bfv_vector, bfv), values, boards),
    ]


def _tenseal(name: str, encrypt: Callable[[list[int]], Any], values: Sequence[int], boards: int) -> Measured:
    plain = list(values)
    one = encrypt(plain)

    def add() -> Any:
        total = one
        for _ in range(boards - 1):
            total = total + one
        return total

    total = add()
    if any(abs(found - boards * value) >= 0.5 for found, value in zip(total.decrypt(), plain, strict=True)):
        raise ToolError(f"{name}: the sum is wrong")
    encrypted = median_s(lambda: encrypt(plain), repetitions=3)
    added, opened = median_s(add, repetitions=3), median_s(total.decrypt, repetitions=3)
    return measured(name, encrypted, added, opened, len(one.serialize()))


def flower(words: int, boards: int) -> list[Measured]:
    """Flower's SecAgg+: a client's four stages stand for encrypting, what the server does for adding and opening."""
    python = flower_python()
    if not python.is_file():
        raise ToolError("Flower is not installed: python -m qepa_tools.benchmarks.peers")
    script = Path(__file__).with_name("flower_secagg.py")
    arguments = [str(each) for each in (boards, words, _NEIGHBOURS, _THRESHOLD)]
    try:
        done = subprocess.run(  # noqa: S603  # our own script
            [str(python), str(script), *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        result = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
        raise ToolError(f"Flower's SecAgg+ did not run: {error}") from error
    if result["error"] > 1e-4:
        raise ToolError("Flower's SecAgg+ gave another mean")
    name = f"Flower {result['version']} SecAgg+, {_NEIGHBOURS} neighbours"
    return [measured(name, result["client_s"], result["add_s"], result["open_s"], result["bytes"])]


def flower_python() -> Path:
    """Flower's interpreter, there or not."""
    return Path(sys.prefix) / "share" / "qepa" / "flower" / "bin" / "python"


def install_flower() -> None:
    """Make Flower's environment; raises CalledProcessError where that fails."""
    folder = flower_python().parents[1]
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)  # noqa: S603  # fixed words
    pip = [str(flower_python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", FLOWER]
    subprocess.run(pip, check=True)  # noqa: S603  # fixed words


if __name__ == "__main__":
    install_flower()
    print(f"{FLOWER} is in {flower_python().parents[1]}")
