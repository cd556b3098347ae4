"""Small sources do what the large ones did; what others ask for is still there under its name."""

import textwrap

import pytest

from qepa_tools.firmware_build.shrink import shrink


def small(keep=("main",), **modules: str) -> dict[str, str]:
    return shrink({name.replace("__", "."): textwrap.dedent(text) for name, text in modules.items()}, keep)


def run(sources: dict[str, str], module: str = "app") -> dict:
    """The names of a module that imports nothing."""
    names: dict = {}
    exec(sources[module], names)  # noqa: S102  what was just made
    return names


def test_an_integer_becomes_its_value_in_every_module_that_imports_it():
    sources = small(
        limits="LEAST = 1 << 4\nMOST = LEAST * 4\n",
        app="from limits import MOST as top\ndef main():\n    return top\n",
    )
    assert "64" in sources["app"]
    assert "LEAST" not in sources["limits"]
    assert "top" not in sources["app"]


@pytest.mark.parametrize(
    "text",
    [
        "SIZE = 4\ndef main():\n    global SIZE\n    SIZE = 5\n    return SIZE\n",
        "SIZE = 4\nif SIZE:\n    SIZE = 5\ndef main():\n    return SIZE\n",
        "SIZE = 4\ndef main(SIZE=5):\n    return SIZE\n",
        "def main():\n    SIZE = 5\n    return SIZE\nSIZE = 4\n",
    ],
)
def test_what_is_bound_twice_is_no_constant(text):
    assert run(small(app=text))["main"]() == 5


def test_big_integers_stay_variables():
    assert "1 << 40" in small(app="MASK = 1 << 40\ndef main():\n    return MASK\n")["app"]


def test_what_nothing_reaches_is_dropped_and_what_it_alone_reached_with_it():
    text = """
        def main():
            return Kept().used()
        class Kept:
            def used(self):
                return _shared()
            def unused(self):
                return only_here()
            def __len__(self):
                return 3
        def _shared():
            return 1
        def only_here():
            return 2
        class Gone:
            pass
        table = [Gone]
    """
    source = small(app=text)["app"]
    assert run({"app": source})["main"]() == 1
    assert "__len__" in source
    assert not any(name in source for name in ("only_here", "unused", "Gone", "table"))


def test_what_a_string_spells_and_what_is_kept_stay_by_name():
    text = """
        def main(box):
            return getattr(box, "answer")()
        class Box:
            def answer(self):
                return _secret
            def asked(self):
                return 1
        _secret = [7]
    """
    names = run(small(("main", "Box", "asked"), app=text))
    assert names["main"](names["Box"]()) == [7]
    assert names["Box"]().asked() == 1


def test_inheriting_across_modules_never_makes_two_attributes_one():
    sources = small(
        ("main", "Base"),
        base="class Base:\n    def __init__(self):\n        self._alpha = 1\n        self.gamma = 3\n"
        "    def alpha(self):\n        return self._alpha + self.gamma\n",
        app="from base import Base\nclass Derived(Base):\n    def __init__(self):\n        super().__init__()\n"
        "        self._beta = 10\n        self.delta = 100\n    def all_of(self):\n"
        "        return self.alpha() + self._beta + self.delta\ndef main():\n    return Derived().all_of()\n",
    )
    names: dict = {}
    exec(sources["base"] + sources["app"].replace("from base import Base\n", ""), names)  # noqa: S102
    assert names["main"]() == 114
    assert "_beta" not in sources["app"]


@pytest.mark.parametrize(
    "text",
    [
        "def main(first, second):\n    return [first * k for k in range(second)]\n",
        "def main(first, second):\n    def inner(second):\n        return first + second\n    return inner(second)\n",
        "def main(first, second):\n    return (lambda second: first - second)(second)\n",
        "def main(first, second):\n    def inner():\n        nonlocal first\n        first += second\n"
        "    inner()\n    return first\n",
        "def main(first, second):\n    first = [first for second in range(2)]\n    return first, second\n",
        "def call(value, times):\n    return value * times\n"
        "def main(first, second):\n    return call(first, times=second)\n",
        "def main(first, second):\n    a = 9\n    return a, first, second\n",
    ],
)
def test_renamed_parameters_mean_what_they_did(text):
    plain: dict = {}
    exec(text, plain)  # noqa: S102
    assert run(small(app=text))["main"](3, 4) == plain["main"](3, 4)


def test_a_parameter_that_is_called_by_name_keeps_it():
    text = "def call(value, times=2):\n    return value * times\ndef main():\n    return call(value=4)\n"
    assert run(small(app=text))["main"]() == 8


def test_branches_for_the_other_interpreter_and_annotations_go():
    text = """
        try:
            from cryptolib import aes
        except ImportError:
            from cryptography import nothing
        try:
            from collections.abc import Sequence
        except ImportError:
            pass
        def main(values: "Sequence[int]") -> int:
            "Docstring."
            total: int = len(values)
            return aes(total)
    """
    source = small(app=text)["app"]
    assert "from cryptolib import aes" in source
    assert not any(word in source for word in ("cryptography", "Sequence", "Docstring", "try", "int"))


def test_names_of_foreign_modules_and_their_objects_are_not_touched():
    text = "import struct\nclass Port:\n    def write(self, data):\n        return struct.pack('<H', len(data))\n"
    source = small(("main",), app=text + "def main():\n    return Port().write(b'abc')\n")["app"]
    assert run({"app": source})["main"]() == b"\3\0"
    assert "def write" in source


def test_classes_are_short_and_errors_keep_what_people_read():
    text = """
        class LongNameOfAClass:
            answer = 7
        class SensorError(Exception):
            pass
        def main():
            try:
                raise SensorError(LongNameOfAClass().answer)
            except SensorError as error:
                return type(error).__name__, error.args[0]
    """
    source = small(app=text)["app"]
    assert "LongNameOfAClass" not in source
    assert run({"app": source})["main"]() == ("SensorError", 7)


def test_the_fields_of_a_namedtuple_are_short_and_still_distinct():
    text = """
        from collections import namedtuple
        Reading = namedtuple("Reading", ("heart_rate", "quality_percent"))
        def main():
            reading = Reading(heart_rate=60, quality_percent=90)
            return reading.heart_rate, reading.quality_percent, reading._replace(heart_rate=1)[0]
    """
    sources = small(app=text)
    assert "heart_rate" not in sources["app"]
    assert run(sources)["main"]() == (60, 90, 1)


def test_a_field_that_something_else_spells_keeps_its_name():
    text = """
        from collections import namedtuple
        Reading = namedtuple("Reading", ("heart_rate", "quality_percent"))
        def main():
            return getattr(Reading(60, 90), "heart_rate")
    """
    assert run(small(app=text))["main"]() == 60


def test_an_error_of_the_wire_keeps_its_reason_and_loses_its_sentence():
    text = """
        class WireError(Exception):
            pass
        def main(data=b"12"):
            raise WireError("payload", "a payload of %d bytes" % len(data))
    """
    sources = small(app=text)
    assert "a payload of" not in sources["app"]
    with pytest.raises(Exception, match="payload"):
        run(sources)["main"]()
