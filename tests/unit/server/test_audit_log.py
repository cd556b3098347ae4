"""The audit log: signed with what it records, whole or said to be broken, also against who can write the database."""

import json
import sqlite3
from contextlib import suppress

import pytest
from hospital_rig import Rig, certified, ward
from typer.testing import CliRunner

from qepa_server.audit import chain
from qepa_tools.cli import app


def qepa(*arguments):
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The folder of a server that enrolled, took a consent and its withdrawal, and ran a round; with the root's key."""
    folder = tmp_path_factory.mktemp("served")
    rig = Rig(folder / "state", ward(1, 12), max_rounds=1)
    rig.connect()
    rig.pass_time(3)
    board = rig.gateways["gw-1"].boards[101]
    rig.hospital.consents.accept(rig.consent(board, bytes(16)))
    rig.hospital.consents.withdraw(rig.withdrawal(bytes(16)))
    rig.crash()
    rig.store.close()
    (folder / "root.pub").write_bytes(rig.root.public_key)
    certified()[1]["gw-1"].save(folder / "gw-1.json")
    return folder


@pytest.fixture
def exported(served, tmp_path):
    code, out, _ = qepa("export", served / "state")
    assert code == 0
    path = tmp_path / "log.jsonl"
    path.write_text(out)
    return path


def rewrite(path, change):
    """Apply ``change(lines)`` to the parsed lines of an export."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def places(lines, kind):
    return [i for i, line in enumerate(lines) if kind in line]


def rechain(lines):
    """What who rewrites a log does: make every hash fit again."""
    previous = chain.GENESIS
    for line in lines:
        if "entry" in line:
            seq, at_ms, event, detail, _ = line["entry"]
            previous = chain.entry_hash(previous, seq, at_ms, event, detail)
            line["entry"][4] = previous.hex()


def test_the_log_of_a_server_is_whole_and_holds_what_happened(served, exported):
    for place in (served / "state", exported):
        code, out, _ = qepa("verify", place, "--root", served / "root.pub", "--json")
        found = json.loads(out)
        assert (code, found["whole"], found["signatures_checked"]) == (0, True, True)
        assert found["signed_until"] == found["entries"]
        assert 0 < found["signatures"] <= found["entries"]
        assert found["events"]["board.enrolled"] == 12
        for event in ("key.audit", "key.cohort", "key.model", "model.signed", "round.opened", "round.done"):
            assert found["events"][event] >= 1, event
        assert found["events"]["consent.given"] == found["events"]["consent.withdrawn"] == 1
        assert "audit.unsigned" not in found["events"]


def altered(lines):
    lines[places(lines, "entry")[4]]["entry"][3] = '{"board":666}'


def dropped(lines):
    del lines[places(lines, "entry")[4]]


def altered_and_rechained(lines):
    altered(lines)
    rechain(lines)


def tail_without_signature(lines):
    seq = lines[places(lines, "entry")[-1]]["entry"][0] + 1
    lines.append({"entry": [seq, 0, "consent.given", "{}", ""]})
    rechain(lines)


def signature_altered(lines):
    seal = lines[places(lines, "seal")[0]]["seal"]
    seal[2] = "00" + seal[2][2:]


def signature_moved(lines):
    lines[places(lines, "seal")[1]]["seal"][0] -= 1


def certificate_gone(lines):
    del lines[places(lines, "certificate")[0]]


def certificate_of_another_root(lines):
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    from qepa_server.audit.seals import SEAL_CONTEXT, head_bytes, signer_of
    from qepa_uplink.identity import Root

    forged = Root(MLDSA65PrivateKey.generate()).issue("server", "server")
    lines[:] = [line for line in lines if "entry" in line]
    last = lines[-1]["entry"]
    head = chain.Head(last[0], bytes.fromhex(last[4]))
    signature = forged.sign(head_bytes(head), SEAL_CONTEXT).hex()
    lines.insert(0, {"certificate": forged.certificate.model_dump(mode="json")})
    lines.append({"seal": [last[0], signer_of(forged.certificate), signature]})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (altered, "entry 5 (board.enrolled) was altered"),
        (dropped, "entry 5 is missing: entry 6 follows"),
        (altered_and_rechained, "does not hold"),
        (tail_without_signature, "nobody signed entry"),
        (signature_altered, "does not hold"),
        (signature_moved, "does not hold"),
        (certificate_gone, "certificate"),
        (certificate_of_another_root, "does not hold"),
    ],
)
def test_a_harmed_log_is_broken_and_says_where(served, exported, harm, said):
    rewrite(exported, harm)
    code, out, _ = qepa("verify", exported, "--root", served / "root.pub", "--json")
    found = json.loads(out)
    assert (code, found["whole"]) == (1, False)
    assert said in found["reason"]


def test_a_log_that_was_cut_off_shows_against_a_head_that_was_kept(served, exported, tmp_path):
    root = ["--root", served / "root.pub"]
    head = json.loads(qepa("verify", exported, "--json")[1])["head"]
    code, text, _ = qepa("countersign", exported, "--identity", served / "gw-1.json")
    assert code == 0
    (tmp_path / "anchor.json").write_text(text)
    kept = [["--head", head], ["--anchor", tmp_path / "anchor.json"]]
    for what in kept:
        assert qepa("verify", exported, *root, *what)[0] == 0
    found = json.loads(qepa("verify", exported, *root, *kept[1], "--json")[1])
    assert found["countersigned_by"] == ["gw-1"]

    def cut(lines):
        del lines[places(lines, "seal")[-2] + 1 :]

    rewrite(exported, cut)
    assert qepa("verify", exported, *root)[0] == 0, "a clean cut shows only against what was kept"
    for what in kept:
        code, out, _ = qepa("verify", exported, *root, *what, "--json")
        assert code == 1
        assert "it was cut off" in json.loads(out)["reason"]


def test_a_log_rewritten_by_the_servers_own_key_shows_against_a_head_that_was_kept(served, exported):
    head = json.loads(qepa("verify", exported, "--json")[1])["head"]
    rewrite(exported, altered_and_rechained)
    code, out, _ = qepa("verify", exported, "--head", head, "--json")
    assert code == 1
    assert "was noted" in json.loads(out)["reason"]


def test_entries_written_to_the_database_behind_the_servers_back_are_noted_at_the_next_start(tmp_path):
    rig = Rig(tmp_path, ward(1, 1))
    with rig.store.read() as connection:
        head = chain.head(connection)
    detail = "{}"
    digest = chain.entry_hash(head.hash, head.seq + 1, 5, "consent.given", detail)
    rig.store.close()
    with sqlite3.connect(tmp_path / "server.db") as database:
        row = (head.seq + 1, 5, "consent.given", detail, digest)
        database.execute("INSERT INTO audit (seq, at_ms, event, detail, hash) VALUES (?, ?, ?, ?, ?)", row)
    rig.start()
    out = json.loads(qepa("verify", tmp_path, "--json")[1])
    assert out["events"]["audit.unsigned"] == 1


def test_what_is_undone_leaves_neither_entry_nor_signature(tmp_path):
    rig = Rig(tmp_path, ward(1, 1))
    before = qepa("export", tmp_path)[1]
    with suppress(RuntimeError), rig.store.write() as connection:
        chain.append(connection, 1, "event")
        raise RuntimeError("power cut")
    assert qepa("export", tmp_path)[1] == before
    with rig.store.write() as connection:
        chain.append(connection, 1, "one")
        chain.append(connection, 2, "two")
    found = [json.loads(line) for line in qepa("export", tmp_path)[1].splitlines()][-3:]
    assert [next(iter(line)) for line in found] == ["entry", "entry", "seal"], "one signature a transaction"


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "nowhere"],
        ["verify", "."],
        ["verify", "log", "--head", "5"],
        ["verify", "log", "--head", "5:00"],
        ["verify", "log", "--root", "nowhere"],
        ["verify", "log", "--anchor", "log"],
        ["verify", "log", "--root", "root", "--anchor", "log"],
        ["countersign", "log", "--identity", "log"],
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_status_2(served, exported, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    exported.rename("log")
    (tmp_path / "root").write_bytes((served / "root.pub").read_bytes())
    code, out, err = qepa(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("qepa: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"entry": [1]}', '{"entry": 3}', '{"x": 1}', '{"entry": [1, "a", 2, 3, 4]}']
)
def test_files_that_are_no_log_are_refused_or_empty(tmp_path, text):
    (tmp_path / "log").write_text(text)
    code, _, err = qepa("verify", tmp_path / "log")
    assert (code, err.count("\n")) == ((0, 0) if not text else (2, 1))
