"""Sensor drivers: one class a chip, one module a family.

Every driver keeps one contract:

    fs_hz                       samples a second of each channel
    channels                    names, of "ecg", "resp", "red", "ir", "ax", "ay", "az", "gx", "gy", "gz",
                                "temperature", "glucose"
    contact                     those of them that LEAD_OFF is about, None for all: where the chip sees the contact of
                                some only, nobody knows about the others
    buffers                     a preallocated array('i') for each channel
    start()                     configure the chip and begin; stop() ends it
    read() -> n                 drain what the chip holds, n samples into each buffer from index 0 on, oldest first;
                                0 if there is nothing
    available                   samples that wait, as far as the driver knows
    gap                         samples lost just before those of the last read()
    state                       one of states.py, as of the last start() or read()
    lost, faults                samples lost, bus errors and losses of configuration, since start()

Nothing raises after construction: what goes wrong is a state, and read() tries to bring the chip back. Nothing
allocates in read() while the chip is well. A chip with an interrupt line sets ``flag`` (asyncio.ThreadSafeFlag or
alike) from it; call read() every tenth of a second or so all the same: an edge can be missed, and a chip without an
interrupt line, or one that has come back, is only found by asking.

Units: ecg in steps of 2.5 microvolts at the electrode (400 to a millivolt), clipped to 12 bits signed (+-2047);
resp in the chip's counts; red and ir in the chip's counts, 0 to 2^18 - 1; ax to az in milli-g; gx to gz in tenths of
a degree a second; temperature in hundredths of a degree Celsius; glucose in mg/dL.
"""

# ruff: noqa: B904, PLC0415  MicroPython knows no exception chaining; machine is not on CPython

from ..errors import BoardError

DRIVERS = {
    "ad8232": ("ad8232", "Ad8232"),
    "ads1292r": ("ads1292r", "Ads1292r"),
    "cgm": ("cgm", "Cgm"),
    "lsm6dso": ("lsm6dso", "Lsm6dso"),
    "max30003": ("max30003", "Max30003"),
    "max30101": ("max30101", "Max30101"),
    "max30102": ("max30101", "Max30101"),
    "max30205": ("thermometers", "Max30205"),
    "max86150": ("max86150", "Max86150"),
    "mpu6050": ("mpu6050", "Mpu6050"),
    "tmp117": ("thermometers", "Tmp117"),
}
_buses = {}  # (kind, id): (what it was opened with, machine's object)


def open_sensor(entry, flag):
    """The driver of the chip that ``entry`` describes, not started.

    entry: {"chip": name, "bus": {...}, "int": pin, "fs_hz": rate, "reset": pin held high, "start": pin held low}, all
    but the first two optional; bus: {"kind": "spi", "id", "sck", "mosi", "miso", "cs"} or {"kind": "i2c", "id", "scl",
    "sda", "addr"} (id -1: SoftI2C; addr optional). An ad8232 has "out", "lo_plus" and "lo_minus" in place of a bus, a
    cgm "period_min". Raises BoardError("sensor") if that makes no sense; a chip that is not there is a state.
    """
    try:
        return _open(entry, flag)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, ImportError) as error:
        raise BoardError("sensor", "%s: %s" % (type(error).__name__, error))


def _open(entry, flag):
    module, name = DRIVERS[entry["chip"]]
    driver = getattr(__import__(__name__ + "." + module, None, None, (name,)), name)
    if driver.bus_kind is None:
        return driver(flag, entry.get("period_min", 5))
    fs_hz = entry.get("fs_hz", 360 if driver.bus_kind == "adc" else driver.rates[0])
    if fs_hz not in driver.rates:
        raise ValueError("fs_hz %s" % fs_hz)
    if driver.bus_kind == "adc":
        return driver(flag, fs_hz, None, entry["out"], entry["lo_plus"], entry["lo_minus"])
    import machine

    bus = entry["bus"]
    if bus["kind"] != driver.bus_kind:
        raise ValueError("a %s is on %s" % (entry["chip"], driver.bus_kind))
    for key, level in (("reset", 1), ("start", 0)):
        if key in entry:
            machine.Pin(entry[key], machine.Pin.OUT, value=level)
    pin = machine.Pin(entry["int"], machine.Pin.IN, machine.Pin.PULL_UP) if "int" in entry else None
    if bus["kind"] == "i2c":
        return driver(_i2c(machine, bus), bus.get("addr", driver.address), pin, flag, fs_hz)
    chip_select = machine.Pin(bus["cs"], machine.Pin.OUT, value=1)
    return driver(_spi(machine, bus, driver), chip_select, pin, flag, fs_hz)


def _i2c(machine, bus):
    scl, sda = bus["scl"], bus["sda"]

    def create():
        if bus["id"] < 0:
            return machine.SoftI2C(scl=machine.Pin(scl), sda=machine.Pin(sda), freq=400000)
        return machine.I2C(bus["id"], scl=machine.Pin(scl), sda=machine.Pin(sda), freq=400000)

    return _shared(("i2c", bus["id"], scl if bus["id"] < 0 else None), (scl, sda), create)


def _spi(machine, bus, driver):
    polarity, phase = driver.spi_mode
    pins = (bus["sck"], bus["mosi"], bus["miso"])

    def create():
        sck, mosi, miso = [machine.Pin(pin) for pin in pins]
        return machine.SPI(
            bus["id"], baudrate=driver.baudrate, polarity=polarity, phase=phase, sck=sck, mosi=mosi, miso=miso
        )

    # Chips that share a bus share its mode and pins.
    return _shared(("spi", bus["id"]), (pins, driver.spi_mode, driver.baudrate), create)


def _shared(key, settings, create):
    if key not in _buses:
        _buses[key] = (settings, create())
    elif _buses[key][0] != settings:
        raise ValueError("bus %s is in use with other settings" % key[1])
    return _buses[key][1]
