"""What a controller runs: its hardware, its role, and the line to the host. Copy link_terminal and qepa_wire to /lib.

`role.txt` on the flash says transmitter or receiver.
"""

# ruff: noqa: PLC0415  a board has only one kind of hardware, and only its modules can be imported
import select
import sys
import time

READ_LIMIT = 256  # bytes a turn, so that pulses and tags are never left waiting for a long query


def serve(controller, source, sink):
    """Run `controller` on a byte stream for ever."""
    poller = select.poll()
    poller.register(source, select.POLLIN)
    buffer = bytearray(READ_LIMIT)
    now_ms, last = 0, time.ticks_ms()
    while True:
        ticks = time.ticks_ms()
        now_ms += time.ticks_diff(ticks, last)
        last = ticks
        length = 0
        # One byte a time: MicroPython's console blocks until it has all the bytes it is asked for.
        while length < READ_LIMIT and poller.poll(0):
            byte = source.read(1)
            if not byte:
                controller.stop("host")
                return
            buffer[length] = byte[0]
            length += 1
        if length:
            controller.receive(bytes(memoryview(buffer)[:length]), now_ms)
        controller.poll(now_ms)
        while controller.outgoing:
            sink.write(controller.outgoing.pop(0))
        if controller.run is None and not length:
            time.sleep_ms(1)


def main():
    """Find out what this board is and serve."""
    import micropython

    with open("role.txt") as file:
        role = file.read().strip()
    controller = transmitter() if role == "transmitter" else receiver()
    micropython.kbd_intr(-1)  # byte 3 is data here, not Ctrl-C
    serve(controller, sys.stdin.buffer, sys.stdout.buffer)


def transmitter():
    """Return the transmitter of this board."""
    from .transmitter import Transmitter

    if sys.platform == "rp2":
        from .rp2040_transmitter import Hardware
    else:
        from .esp32_transmitter import Hardware
    return Transmitter(Hardware())


def receiver():
    """Return the receiver of this board: RP2040 only, because MicroPython's RMT on the ESP32 cannot receive."""
    from .receiver import Receiver
    from .rp2040_receiver import Hardware

    return Receiver(Hardware())
