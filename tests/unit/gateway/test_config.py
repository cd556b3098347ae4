"""One TOML file: its example holds, and what is wrong with another is said in one line."""

import subprocess
import sys
from dataclasses import replace

import pytest

from qepa_gateway.config import example, load_config
from qepa_gateway.domain.rollout import DEFAULT_TERMS, Terms
from qepa_gateway.errors import ConfigError


def changed(tmp_path, *replacements):
    text = example()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return path


def test_the_example_is_a_configuration_and_shows_the_defaults(tmp_path):
    config = load_config(changed(tmp_path))
    assert config.state_dir == tmp_path / "state"
    # Uncommented, every setting is known and has the value it has without.
    text = "".join(
        line.removeprefix("# ") if " = " in line or "[" in line else line for line in example().splitlines(1)
    )
    path = tmp_path / "all.toml"
    path.write_text(text)
    every = load_config(path)
    assert (every.keys, every.spool, every.model_rollout, every.min_group) == (
        config.keys, config.spool, config.model_rollout, config.min_group,
    )  # fmt: skip
    assert every.firmware.model_copy(update={"root": None}) == config.firmware
    assert every.kme.master_sae == "dock"
    assert every.broker.ca == tmp_path / "broker" / "ca.pem"


def test_a_rollout_s_terms_are_those_of_its_section(tmp_path):
    config = load_config(changed(tmp_path, ("# soak_s = 2 ", "soak_s = 0.5 "), ("# soak_s = 300", "soak_s = 7")))
    assert config.model_rollout.terms() == replace(DEFAULT_TERMS, soak_ms=500)
    assert config.firmware.terms() == Terms(3_600_000, 7000, 3_600_000, 1, reboots=True)
    with pytest.raises(ConfigError, match=r"firmware\.staged is no setting"):
        load_config(changed(tmp_path, ("[firmware]", "[firmware]\nstaged = false\n#")))


def test_the_example_comes_from_the_command(tmp_path):
    said = subprocess.run(
        [sys.executable, "-m", "qepa_gateway", "--example-config"], capture_output=True, text=True, check=True
    )
    assert said.stdout == example()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("port = 1883", "port = 70000"), "broker.port: input should be less than or equal to 65535"),
        (("port = 1883", "port = nan"), "broker.port: input should be a valid integer"),
        (("port = 1883", 'port = "1883"'), "broker.port: input should be a valid integer"),
        (("port = 1883", "port = true"), "broker.port: input should be a valid integer"),
        (('host = "127.0.0.1"\nport = 1883', "port = 1883"), "broker.host is missing"),
        (("[keys]", "[keys]\nbetween_docks_h = 0"), "keys.between_docks_h: input should be greater than or equal to 1"),
        (("[keys]", "[keys]\nbetween_dock_h = 3"), "keys.between_dock_h is no setting of the gateway's"),
        (("# min_group = 10", "min_group = 4"), "min_group: input should be greater than or equal to 5"),
        (('name = "gw-1"', 'name = "GW 1"'), "name: string should match pattern"),
        (("[broker]", "[broker"), "is no TOML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, says):
    with pytest.raises(ConfigError) as error:
        load_config(changed(tmp_path, change))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"broker\.port.*; bedside\.port") as error:
        load_config(changed(tmp_path, ("port = 1883", "port = 0"), ("port = 8081", "port = -1")))
    assert str(error.value).startswith(str(tmp_path))
