"""Text commands and settings of the optical controllers: the one table that controllers, hosts and PROTOCOL.md share.

Numbers are decimal text on the line and integers here, scaled by a power of ten that the table names, because
a controller computes without floating point.
"""

from .errors import WireError

TRANSMITTER, RECEIVER = "transmitter", "receiver"
BOTH = (TRANSMITTER, RECEIVER)

HOST_SILENCE_LIMIT_MS = 5000  # a running controller whose host says nothing for this long stops
PROBABILITY_ONE = 1_000_000
_ROUNDING = 10  # three probabilities written with six digits need not add up to the last of them
_LARGEST_EXPONENT = 12

COMMANDS = (
    # command, controllers, answer after OK, meaning
    ("*IDN?", BOTH, "`QEPA <controller> protocol=1`, further fields may follow", "who answers"),
    ("STATUS?", BOTH, "`state= damaged= lost=` and more, see below", "how the run is going; also keeps it alive"),
    ("SETTINGS?", BOTH, "`name=value` for each setting", "what is set"),
    ("TEST?", BOTH, "`pass`, details may follow", "self-test of random source, memory and inputs; not during a run"),
    ("SET name=value", BOTH, "nothing", "change a setting; not during a run"),
    ("START run=0000002a", BOTH, "nothing", "begin run 0x2a, see below"),
    ("STOP", BOTH, "nothing", "end the run; the transmitter goes dark"),
)

UNKNOWN_COMMAND, RUNNING, BAD_SETTING, NOT_HERE, FAULT = 1, 2, 3, 4, 5
ERRORS = (
    (UNKNOWN_COMMAND, "unknown command or argument"),
    (RUNNING, "a run is under way: stop first"),
    (BAD_SETTING, "unknown setting, or a value out of range"),
    (NOT_HERE, "this controller's hardware cannot do that"),
    (FAULT, "self-test failed or hardware broken"),
)


class Setting:
    """One row: `count` numbers from `lowest` to `highest` times 10^-`digits`, or one of the `words`."""

    def __init__(
        self,
        name: str,
        roles: tuple[str, ...],
        default: str,
        unit: str,
        meaning: str,
        count: int = 1,
        digits: int = 0,
        lowest: int = 0,
        highest: int = 0,
        words: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.roles = roles
        self.default = default
        self.unit = unit
        self.meaning = meaning
        self.count = count
        self.digits = digits
        self.lowest = lowest
        self.highest = highest
        self.words = words

    def parse(self, text: str) -> "tuple[int, ...] | str":
        """Return the scaled numbers, or the word. Raises WireError with reason setting."""
        if self.words:
            if text not in self.words:
                raise WireError("setting", "%s is one of %s" % (self.name, ", ".join(self.words)))
            return text
        parts = text.split(",")
        if len(parts) != self.count:
            raise WireError("setting", "%s takes %d numbers" % (self.name, self.count))
        values = tuple(scaled(part, self.digits) for part in parts)
        if min(values) < self.lowest or max(values) > self.highest:
            low, high = unscaled(self.lowest, self.digits), unscaled(self.highest, self.digits)
            raise WireError("setting", "%s is from %s to %s" % (self.name, low, high))
        if self.name == "probabilities" and abs(sum(values) - PROBABILITY_ONE) > _ROUNDING:
            raise WireError("setting", "probabilities do not add up to 1")
        return values

    def text(self, value: "tuple[int, ...] | str") -> str:
        """Return `value` as `parse` reads it."""
        if isinstance(value, str):
            return value
        return ",".join(unscaled(x, self.digits) for x in value)


SETTINGS = (
    Setting(
        "pulse_rate_hz", (TRANSMITTER,), "1e6", "Hz", "pulses, and slots, a second", lowest=1_000, highest=100_000_000
    ),
    Setting(
        "pulse_width_ns",
        (TRANSMITTER,),
        "8",
        "ns",
        "how long the source is on in a slot, rounded to the hardware's step",
        lowest=1,
        highest=100_000,
    ),
    Setting(
        "intensities",
        (TRANSMITTER,),
        "0.5,0.2,0.002",
        "photons",
        "mean photon numbers mu1, mu2, mu3",
        count=3,
        digits=6,
        highest=10_000_000,
    ),
    Setting(
        "probabilities",
        (TRANSMITTER,),
        "0.4,0.3,0.3",
        "",
        "how often each is sent; 0 leaves it out",
        count=3,
        digits=6,
        highest=PROBABILITY_ONE,
    ),
    Setting(
        "key_basis_probability",
        (TRANSMITTER,),
        "0.7",
        "",
        "how often the key basis (H/V) is sent",
        digits=6,
        lowest=1,
        highest=PROBABILITY_ONE - 1,
    ),
    Setting("sync_every", BOTH, "1000", "slots", "slots from one sync pulse to the next", lowest=1, highest=4096),
    Setting(
        "clock",
        BOTH,
        "internal",
        "",
        "where the time base comes from; external is a 10 MHz reference",
        words=("internal", "external"),
    ),
    Setting("report", (RECEIVER,), "slots", "", "send detections by slot, or raw time tags", words=("slots", "tags")),
    Setting(
        "gate_ns",
        (RECEIVER,),
        "0",
        "ns",
        "with slots: length of the window in each slot in which a click counts; 0 is the whole slot",
        highest=1_000_000,
    ),
    Setting(
        "gate_delay_ns", (RECEIVER,), "0", "ns", "with slots: from the slot's start to the window", highest=1_000_000
    ),
    Setting(
        "thresholds_mv",
        (RECEIVER,),
        "1000,1000,1000,1000",
        "mV",
        "discriminator levels of H, V, D, A",
        count=4,
        lowest=-3_300,
        highest=3_300,
    ),
    Setting(
        "dead_time_ns",
        (RECEIVER,),
        "0",
        "ns",
        "clicks of a detector this soon after its last one are dropped",
        highest=1_000_000,
    ),
)


def settings_of(role: str) -> list[Setting]:
    """Return the settings that a controller of this role has, in the table's order."""
    return [setting for setting in SETTINGS if role in setting.roles]


def run_of(argument: str) -> int:
    """Return the run number of `run=0000002a`. Raises WireError with reason command."""
    digits = argument[4:]
    if argument[:4] != "run=" or len(digits) != 8 or any(c not in "0123456789abcdef" for c in digits):
        raise WireError("command", "START takes run= and eight lower-case hexadecimal digits")
    return int(digits, 16)


def scaled(text: str, digits: int) -> int:
    """Return the decimal number `text` (also 1e6, 2.5e-3) times 10^`digits`, rounded half up.

    Raises WireError with reason setting.
    """
    mantissa, _, exponent = text.lower().partition("e")
    negative = mantissa[:1] == "-"
    whole, _, fraction = (mantissa[1:] if mantissa[:1] in ("-", "+") else mantissa).partition(".")
    power = exponent[1:] if exponent[:1] in ("-", "+") else exponent
    if not _digits(whole + fraction) or len(text) > 32 or ("e" in text.lower() and not _digits(power)):
        raise WireError("setting", "not a number")
    shift = int(exponent or "0")
    if abs(shift) > _LARGEST_EXPONENT:
        raise WireError("setting", "a number too large or too small")
    shift += digits - len(fraction)
    power_of_ten = int(10 ** abs(shift))
    value = int(whole + fraction)
    value = value * power_of_ten if shift >= 0 else (2 * value + power_of_ten) // (2 * power_of_ten)
    return -value if negative else value


def unscaled(value: int, digits: int) -> str:
    """Return `value` times 10^-`digits` as the shortest plain decimal text."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole = str(value // 10**digits)
    fraction = str(10**digits + value % 10**digits)[1:].rstrip("0")
    return sign + whole + ("." + fraction if fraction else "")


def _digits(text: str) -> bool:
    return text != "" and all(c in "0123456789" for c in text)
