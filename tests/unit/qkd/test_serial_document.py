"""hardware/bb84/PROTOCOL.md and the code say the same, and the numbers on the line are what they seem."""

import contextlib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_tools.bench.protocol_tables import with_tables
from qepa_wire.errors import WireError
from qepa_wire.link_commands import BOTH, SETTINGS, run_of, scaled, settings_of, unscaled

DOCUMENT = Path(__file__).parents[3] / "hardware" / "bb84" / "PROTOCOL.md"


def test_the_documents_tables_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text()
    assert with_tables(text) == text
    with pytest.raises(ValueError, match="no place"):
        with_tables(text.replace("<!-- table settings -->", ""))


@pytest.mark.parametrize("role", BOTH)
def test_every_default_is_a_value_and_reads_back(role: str) -> None:
    for setting in settings_of(role):
        value = setting.parse(setting.default)
        assert setting.parse(setting.text(value)) == value


def test_names_are_one_thing_only() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


@given(st.integers(-(10**9), 10**9), st.integers(0, 6))
def test_scaled_numbers_read_back(value: int, digits: int) -> None:
    assert scaled(unscaled(value, digits), digits) == value
    assert Decimal(unscaled(value, digits)) == Decimal(value).scaleb(-digits)


@given(st.floats(1e-9, 1e9), st.integers(0, 6))
def test_what_a_host_formats_is_read_to_half_a_unit(value: float, digits: int) -> None:
    text = f"{value:g}"
    assert abs(Decimal(scaled(text, digits)).scaleb(-digits) - Decimal(text)) <= Decimal("0.5").scaleb(-digits)


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_the_one_error(text: str) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(scaled(text, 6), int)


@pytest.mark.parametrize("text", ["", "-", ".", "e5", "1e", "1e13", "0x1", "1_0", " 1", "\u0661", "1.2.3", "inf"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        scaled(text, 3)


@pytest.mark.parametrize("argument", ["run=0000002A", "run=2a", "run=0000002a0", "0000002a", "", "run=0000002g"])
def test_a_run_has_eight_digits(argument: str) -> None:
    assert run_of("run=0000002a") == 42
    with pytest.raises(WireError):
        run_of(argument)
