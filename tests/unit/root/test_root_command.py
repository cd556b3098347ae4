"""`qepa root`: what the offline root certifies is what gateway and server take."""

import json
import stat
import time

import pytest
from typer.testing import CliRunner

from qepa_gateway.config import load_config, load_trusted
from qepa_gateway.errors import ConfigError
from qepa_gateway.main import example
from qepa_tools.cli import app
from qepa_uplink.identity import Certificate, Identity, verify_certificate


def qepa(*words, code=0):
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("safe")
    qepa("root", "new", folder)
    return folder


def issue(root, folder, name, role, *more):
    said = qepa("root", "issue", name, role, "--root", root, "--out", folder / f"{name}.json", "--json", *more)
    return json.loads(said.stdout)


@pytest.mark.parametrize("role", ["server", "gateway", "dock", "consent", "release"])
def test_a_party_is_certified_by_the_root(root, tmp_path, role):
    said = issue(root, tmp_path, "somebody", role, "--days", 3)
    keys, certificate = tmp_path / "somebody.json", tmp_path / "somebody.cert.json"
    assert (said["identity"], said["certificate"]) == (str(keys), str(certificate))
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    public = (root / "root.pub").read_bytes()
    subject = verify_certificate(
        Certificate.model_validate_json(certificate.read_bytes()), public, role=role, now_s=time.time()
    )
    assert (subject.name, subject) == ("somebody", Identity.load(keys).subject)
    assert 2 * 86400 < subject.not_after_s - time.time() <= 3 * 86400
    assert stat.S_IMODE((root / "root.key").stat().st_mode) == 0o600


def test_the_gateways_example_starts_with_what_the_root_issues(root, tmp_path):
    issue(root, tmp_path, "gw-1", "gateway")
    issue(root, tmp_path, "server", "server")
    (tmp_path / "root.pub").write_bytes((root / "root.pub").read_bytes())
    (tmp_path / "gateway.toml").write_text(example())
    trusted = load_trusted(load_config(tmp_path / "gateway.toml"), now_s=time.time())
    assert trusted.identity.name == "gw-1"


def test_another_root_is_not_believed(root, tmp_path):
    issue(root, tmp_path, "gw-1", "gateway")
    qepa("root", "new", tmp_path / "other")
    issue(tmp_path / "other", tmp_path, "server", "server")
    (tmp_path / "root.pub").write_bytes((root / "root.pub").read_bytes())
    (tmp_path / "gateway.toml").write_text(example())
    with pytest.raises(ConfigError, match="does not vouch"):
        load_trusted(load_config(tmp_path / "gateway.toml"), now_s=time.time())


def test_whose_a_file_is_can_be_asked(root, tmp_path):
    issue(root, tmp_path, "gw-1", "gateway")
    for file in ("gw-1.json", "gw-1.cert.json"):
        assert qepa("root", "show", tmp_path / file).stdout.startswith("gw-1, gateway, valid until 2")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("new", "ROOT"), "holds a root already"),
        (("issue", "gw-1", "gateway", "--root", "nowhere"), "holds no root"),
        (("issue", "GW 1", "gateway", "--root", "ROOT"), "no name of a party"),
        (("issue", "gw-1", "gateway", "--root", "ROOT", "--out", "THERE"), "is there already"),
        (("issue", "gw-1", "gateway", "--root", "ROOT", "--out", "/proc/no/gw-1.json"), "cannot be written"),
        (("show", "nowhere.json"), "cannot be read"),
        (("show", "THERE"), "neither keys nor a certificate"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_status_2(root, tmp_path, words, sentence):
    there = tmp_path / "there.json"
    there.write_text("{}")
    known = {"ROOT": str(root), "THERE": str(there)}
    result = qepa("root", *(known.get(word, word) for word in words), code=2)
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert there.read_text() == "{}"
