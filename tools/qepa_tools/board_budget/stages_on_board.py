# mypy: ignore-errors
# ruff: noqa: D103, PLR0915, S101  run by the interpreter, not imported
# This is MicroPython.
"""Measures every stage of a board's work on this interpreter; prints one JSON object of microseconds by name.

/ecg.bin holds 60 s of ECG at 256 samples a second, array('h'). What is "a second" is a second of it, what is "an
update" a vector of 240 words. Each figure is the fastest of several runs: others use this machine too.
"""

import gc
import hashlib
import json
import os
import sys
import time
from array import array

from cryptolib import aes

import qepa_kernels
from qepa_board.drivers.max30003 import Max30003
from qepa_board.drivers.states import RUNNING
from qepa_board.learning.features import N_FEATURES
from qepa_board.learning.learn import Learner
from qepa_board.learning.network import ModelShape, predict
from qepa_board.signals.dsp import EcgFilter
from qepa_board.signals.ecg import EcgPipeline
from qepa_board.signals.rpeak import RPeakDetector
from qepa_board.system.flash import write_record
from qepa_wire.discrete_gaussian import DiscreteGaussian
from qepa_wire.fragments import Fragmenter
from qepa_wire.frame import VECTOR, WAVE, encode
from qepa_wire.keystream import DOMAIN_CHECK, DOMAIN_MASK, STREAM_UPDATE, fill_keystream
from qepa_wire.lighthe import add_mask, seal, vector_bytes
from qepa_wire.payloads import WAVE_ECG, encode_vector, encode_wave
from qepa_wire.quantizer import Quantizer

FS_HZ = 256
PART = 64
WORDS = 240
BEATS = 36  # labelled in half a minute at 72 bpm
MTU = 247

# Short runs, many of them: one of them is undisturbed by whoever else uses this machine. The WebAssembly port's clock
# goes in steps of a millisecond, so its runs are longer.
RUN_US, RUNS = (1000, 60) if sys.platform == "linux" else (20000, 6)


def us(operation):
    """Microseconds of one call."""
    operation()
    calls = 1
    while True:
        fastest = _run(operation, calls)
        if fastest > RUN_US:
            break
        calls *= 2 if fastest > RUN_US // 16 else 8
    gc.collect()
    for _ in range(RUNS - 1):
        fastest = min(fastest, _run(operation, calls))
    return fastest / calls


def _run(operation, calls):
    began = time.ticks_us()
    for _ in range(calls):
        operation()
    return time.ticks_diff(time.ticks_us(), began)


def random_bits(count):
    return int.from_bytes(os.urandom((count + 7) // 8), "big") >> (-count % 8)


def reference():
    """Integer work as the board's bytecode does it: array words, shifts, masks, comparisons, calls."""
    words = _WORDS
    total = 0
    for k in range(256):
        v = words[k]
        if v & 0x80:
            v = (v << 1) ^ 0x11B
        total = (total + _twist(v, k)) & 0xFFFF
        words[k] = total & 0xFF
    return total


def _twist(v, k):
    return v ^ (k >> 1)


_WORDS = bytearray(range(256))


class Spi:
    """A MAX30003 that always has 16 samples: the time of the bus itself is not the processor's."""

    def __init__(self):
        words = bytearray(1)
        for k in range(16):
            sample = 40 * k << 6 | (2 << 3 if k == 15 else 0)
            words += bytes((sample >> 16 & 0xFF, sample >> 8 & 0xFF, sample & 0xFF))
        self._burst = words + bytes(3 * 16)

    def write_readinto(self, out, into):
        register = out[0] >> 1
        if register == 0x20:
            into[:] = self._burst
        else:
            into[1] = 0x08 if register == 0x10 else 0
            into[2] = 0x12 if register == 0x10 else 0
            into[3] = 0x17 if register == 0x10 else 0

    def value(self, level):
        pass


class File:
    """Where write_record writes: this machine's file system, which is no flash."""

    def write(self, name, data):
        with open("/" + name, "wb") as file:
            file.write(data)


class Ecg:
    """The 60 s over and over, a second a call, for each stage on its own."""

    def __init__(self):
        with open("/ecg.bin", "rb") as file:
            self.counts = array("h", file.read())
        self.at = 0
        self.block = array("h", bytes(2 * FS_HZ))
        self.pipeline = EcgPipeline(FS_HZ)
        self.filter = EcgFilter(FS_HZ)
        self.envelope = array("i", bytes(4 * PART))
        self.detector = RPeakDetector(self.filter)
        self.envelopes = []
        self.first = 0

    def next_second(self):
        for k in range(FS_HZ):
            self.block[k] = self.counts[self.at + k]
        self.at = (self.at + FS_HZ) % len(self.counts)

    def push_second(self):
        self.next_second()
        self.pipeline.push(self.block, FS_HZ)

    def filter_second(self):
        self.next_second()
        for k in range(0, FS_HZ, PART):
            self.filter.run(self.block, PART, self.envelope, k)

    def peaks_second(self):
        for _ in range(FS_HZ // PART):
            self.detector.run(self.envelopes[(self.first // PART) % len(self.envelopes)], self.first, PART)
            self.first += PART
        self.detector.clear()


def ecg_stages(out):
    ecg = Ecg()
    copying = us(ecg.next_second)
    for _ in range(10):
        ecg.push_second()
    before, seconds = ecg.pipeline.n_beats, ecg.pipeline.n_samples
    out["ecg_second"] = us(ecg.push_second) - copying
    out["beats_per_s"] = (ecg.pipeline.n_beats - before) * FS_HZ / (ecg.pipeline.n_samples - seconds)
    out["filter"] = us(ecg.filter_second) - copying
    for _ in range(10):
        ecg.next_second()
        for k in range(0, FS_HZ, PART):
            ecg.filter.run(ecg.block, PART, ecg.envelope, k)
            ecg.envelopes.append(array("i", ecg.envelope))
    out["r_peak"] = us(ecg.peaks_second)
    measure = ecg.pipeline._measure
    row = array("h", bytes(2 * N_FEATURES))
    r_index = ecg.pipeline.n_samples - 2 * FS_HZ
    out["features_of_a_beat"] = us(lambda: measure.measure(r_index, 200, 210, row))
    shape = ModelShape()
    words = array("i", [k % 97 for k in range(shape.words)])
    scores = array("i", bytes(4 * shape.classes))
    out["classify_a_beat"] = us(lambda: predict(shape, words, row, scores))
    spi = Spi()
    front_end = Max30003(spi, spi, None, None)
    front_end.state = RUNNING
    assert front_end.read() == 16
    out["sample"] = us(front_end.read) * FS_HZ / 16


def update_stages(out):
    keys = (b"l" * 32, b"e" * 32)
    check_key = b"c" * 32
    values = [(k * 7919) % 20001 - 10000 for k in range(WORDS)]
    size = vector_bytes(WORDS)
    n_blocks = (size + 15) // 16

    shape = ModelShape(hidden=10)
    model = array("i", [(k * 31) % 601 - 300 for k in range(shape.words)])
    delta = array("i", bytes(4 * shape.words))
    beats = [array("h", [(k * 37 + b * 101) % 301 - 150 for k in range(N_FEATURES)]) for b in range(BEATS)]
    labels = [b % 4 if b % 5 == 0 else 0 for b in range(BEATS)]
    learner = Learner(shape)
    out["learn_words"] = shape.words
    out["learn"] = us(lambda: learner.local_update(model, beats, labels, delta))

    quantizer = Quantizer(10000, 4095, 1000)
    out["quantize"] = us(lambda: [quantizer.quantize(value) for value in values])
    noise = DiscreteGaussian(4 * 256, random_bits)
    out["noise"] = us(lambda: [noise.sample() for _ in range(WORDS)])

    secret = bytearray(16 * WORDS)

    def keystreams():
        fill_keystream(secret, check_key, DOMAIN_CHECK, STREAM_UPDATE, 0, 1, WORDS)
        fill_keystream(secret, keys[0], DOMAIN_MASK, STREAM_UPDATE, 0, 1, n_blocks)
        fill_keystream(secret, keys[1], DOMAIN_MASK, STREAM_UPDATE, 0, 1, n_blocks)

    def ciphers():
        for n in (WORDS, n_blocks, n_blocks):
            aes(check_key, 1).encrypt(memoryview(secret)[: 16 * n], memoryview(secret)[: 16 * n])

    out["keystream"] = us(keystreams)
    out["keystream_aes"] = us(ciphers)
    out["keystream_aes_bytes"] = 16 * (WORDS + 2 * n_blocks)

    sealed = bytearray(size)

    def masks():
        add_mask(sealed, secret)
        add_mask(sealed, secret)

    out["masks"] = us(masks)
    words = array("i", values)
    out["check"] = us(lambda: qepa_kernels.check_sums(secret, words, WORDS, sealed, WORDS))
    payload = encode_vector(1, STREAM_UPDATE, 1, bytes(sealed))
    frame = encode(VECTOR, 1, 1, 1, payload, check_key)
    out["mac"] = us(lambda: encode(VECTOR, 1, 1, 1, payload, check_key))

    def sha():
        digest = hashlib.sha256(check_key)
        digest.update(payload)
        digest.digest()

    out["mac_sha"] = us(sha)
    out["mac_sha_bytes"] = len(frame) + 64 + 64 + 32
    out["frame_bytes"] = len(frame)
    fragmenter = Fragmenter()
    fragmenter.reset(MTU)

    def fragments():
        fragmenter.load(frame)
        n = 0
        while fragmenter.next() is not None:
            n += 1
        return n

    out["n_fragments"] = fragments()
    out["fragments"] = us(fragments)

    def encrypt():
        vector = seal(values, keys, check_key, STREAM_UPDATE, 1)
        fragmenter.load(encode(VECTOR, 1, 1, 1, encode_vector(1, STREAM_UPDATE, 1, vector), check_key))
        while fragmenter.next() is not None:
            pass

    out["seal"] = us(lambda: seal(values, keys, check_key, STREAM_UPDATE, 1))
    out["encrypt_update"] = us(encrypt)
    flash = File()
    out["flash_write"] = us(lambda: write_record(flash, "out-1", frame))


def wave_stage(out):
    """A second of the waveform, sealed and cut into fragments: what a board does beside all else while it is wanted."""
    key, mac_key = b"c" * 32, b"l" * 32
    wave = (WAVE_ECG, 1, FS_HZ, 1, 1000, (1010, 1200), bytes(2 * FS_HZ))
    fragmenter = Fragmenter()
    fragmenter.reset(MTU)

    def second():
        frame = encode(WAVE, 1, 1, 1, encode_wave(key, bytes(16), 1, 1, wave), mac_key)
        fragmenter.load(frame)
        n = 0
        while fragmenter.next() is not None:
            n += 1
        return len(frame), n

    out["wave_bytes"], out["wave_fragments"] = second()
    out["wave"] = us(second)


figures = {"implementation": qepa_kernels.IMPLEMENTATION, "reference": us(reference)}
ecg_stages(figures)
update_stages(figures)
wave_stage(figures)
print(json.dumps(figures))
