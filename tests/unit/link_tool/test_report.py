"""The report: passports that hold and such that do not, the channel they show, the page."""

import json
import re
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from math import log10
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.channel_model import Channel, leak_bits, sifted_rates
from qepa_qkd.config import ProtocolSection
from qepa_qkd.decoy import PROOFS, EpsilonBudget, SourceSettings
from qepa_qkd.distillation import BlockOutcome
from qepa_qkd.history import History, history_path
from qepa_qkd.passport import Passport
from qepa_qkd.store_database import write_secret_file
from qepa_qkd.vault import Vault
from qepa_qkd.verification import TAG_BITS
from qepa_tools.errors import ToolError
from qepa_tools.link.archive import read_archive
from qepa_tools.link.estimate import Pooled, pool, seen_channel
from qepa_tools.link.folder import LinkFolder, Ports, open_folder
from qepa_tools.link.report import document, facts_of, page

PROTOCOL = ProtocolSection()
SOURCE = SourceSettings(PROTOCOL.intensities, PROTOCOL.intensity_probabilities)
CHANNEL = Channel(transmittance=0.1, background_hz=3000.0, misalignment=0.012, dead_time_ns=0.0)
SECONDS = 20.0
SEED = bytes(range(32))


def passport(number: int, *, made_s: float) -> Passport:
    rates = sifted_rates(CHANNEL, SOURCE, PROTOCOL.key_basis_probability)
    counts = rates.counts(SECONDS * PROTOCOL.pulse_rate_hz)
    leak = leak_bits(sum(counts.n_x), rates.qber_x, 1.05)
    bounds = PROOFS[PROTOCOL.proof].key_length(counts, SOURCE, EpsilonBudget(), leak, TAG_BITS)
    return Passport(
        block_id=number,
        role="alice",
        link="bench",
        made_s=made_s,
        software="0",
        proof=PROTOCOL.proof,
        source=SOURCE,
        counts=counts,
        qber_x=rates.qber_x,
        qber_z=counts.qber_z,
        epsilon=EpsilonBudget(),
        verification_epsilon=1e-16,
        leak_bits=leak,
        verification_bits=TAG_BITS,
        bounds=bounds,
        key_bits=bounds.bits // 8 * 8,
        authentication_bits=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> LinkFolder:
    """A link's folder with six blocks, of which the third and fourth ended without key, on a simulated bench."""
    folder = open_folder(tmp_path / "link", Ports())
    config = folder.configs["alice"]
    write_secret_file(config.store.signing_key, SEED)
    history = History(history_path(config.store.path))
    history.started(0.0, simulated=True)
    key = MLDSA65PrivateKey.from_seed_bytes(SEED)
    secret = InitialSecret.parse(config.initial_secret.read_bytes())
    vault = Vault(config.store.path, config.store.kek, secret, is_alice=True)
    for number in range(1, 7):
        made_s = SECONDS * number
        if number in (3, 4):
            history.block(made_s, BlockOutcome(number, None, 0.2, 0, f"QBER 2{number} % <is> over", 900_000), 0)
            continue
        made = passport(number, made_s=made_s)
        vault.store_block(number, bytes(100), 0, made.signed(key), live=True)
        history.block(made_s, BlockOutcome(number, made.qber_x, made.qber_z, made.key_bits, None, 900_000), 0)
    vault.close()
    return folder


def put_passport(folder: LinkFolder, text: str) -> None:
    """Put another passport in the place of block 2's."""
    with closing(sqlite3.connect(folder.configs["alice"].store.path, isolation_level=None)) as connection:
        assert connection.execute("UPDATE blocks SET passport = ? WHERE id = 2", (text,)).rowcount == 1


def pooled(seconds: float, blocks: int = 3) -> Pooled:
    fields = json.loads(passport(1, made_s=0.0).signed(MLDSA65PrivateKey.generate()))["passport"]
    found = pool([(fields, seconds)] * blocks)
    assert found is not None
    return found


def test_a_channel_is_found_again_from_the_counts_it_gave() -> None:
    found = seen_channel(pooled(SECONDS), PROTOCOL)
    assert found is not None
    assert found.loss_db == pytest.approx(-10 * log10(CHANNEL.transmittance), abs=0.1)
    assert found.channel.background_hz == pytest.approx(CHANNEL.background_hz, rel=0.05)
    assert found.channel.misalignment == pytest.approx(CHANNEL.misalignment, rel=0.05)
    assert found.channel.receiver_key_basis_probability == pytest.approx(0.7, abs=0.01)


def test_counts_that_no_channel_gives_have_none() -> None:
    assert seen_channel(pooled(0.0), PROTOCOL) is None
    assert seen_channel(pooled(SECONDS / 1000), PROTOCOL) is None  # more clicks than pulses
    assert pool([]) is None


def test_pooled_counts_scaled_to_the_size_of_a_block_give_its_length() -> None:
    made, one = passport(1, made_s=0.0), pooled(SECONDS)
    size = sum(made.counts.n_x)
    assert one.scaled(size, PROTOCOL.proof, EpsilonBudget()).bits == pytest.approx(made.bounds.bits, abs=8)
    assert one.scaled(size // 100, PROTOCOL.proof, EpsilonBudget()).bits == 0


def test_the_figures_are_those_of_the_blocks(folder: LinkFolder) -> None:
    archive = read_archive(folder.configs["alice"])
    numbers = document(facts_of(archive))
    made = passport(1, made_s=0.0)
    assert numbers["simulated"]
    assert (numbers["blocks"], numbers["blocks_without_key"]) == (6, 2)
    assert (numbers["passports_verified"], numbers["passports_rejected"]) == (4, [])
    assert numbers["key_bits"] == 4 * made.key_bits
    assert numbers["median_key_rate_bps"] == pytest.approx(made.bounds.bits / SECONDS)
    assert numbers["loss_db"] == pytest.approx(10.0, abs=0.1)
    assert numbers["correction_efficiency"] == pytest.approx(1.05, abs=1e-3)
    assert numbers["reasons"] == {"QBER 23 % <is> over": 1, "QBER 24 % <is> over": 1}


def test_the_page_holds_everything_in_itself(folder: LinkFolder) -> None:
    text = page(facts_of(read_archive(folder.configs["alice"])))
    assert text.count("<svg") == 5
    assert "Simulated: these figures come from a virtual optical bench" in text
    assert "<td>QBER 24 % &lt;is&gt; over</td><td>2</td>" in text  # alike but for numbers: the newest stands for them
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=.(?!#)", text)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [('"leak_bits": ', '"leak_bits": 1', "signature does not verify"), ('{"passport"', '{"paper"', "signature")],
)
def test_a_passport_that_was_changed_is_rejected_and_named(folder: LinkFolder, old: str, new: str, why: str) -> None:
    text = passport(2, made_s=2 * SECONDS).signed(MLDSA65PrivateKey.from_seed_bytes(SEED))
    assert old in text
    put_passport(folder, text.replace(old, new))
    archive = read_archive(folder.configs["alice"])
    assert len(archive.passports) == 3
    assert why in archive.rejected[0]
    assert "Passports that do not hold" in page(facts_of(archive))


def test_a_signed_passport_that_grants_more_than_its_counts_is_rejected(folder: LinkFolder) -> None:
    made = passport(2, made_s=2 * SECONDS)
    greedy = replace(made, key_bits=made.key_bits + 80_000)
    put_passport(folder, greedy.signed(MLDSA65PrivateKey.from_seed_bytes(SEED)))
    archive = read_archive(folder.configs["alice"])
    assert len(archive.passports) == 3
    assert "block 0000000000000002" in archive.rejected[0]


def test_a_link_that_never_ran_is_said_to(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "link", Ports())
    with pytest.raises(ToolError, match="no key store"):
        read_archive(folder.configs["alice"])


def test_a_folder_is_made_once_with_secrets_that_only_its_owner_reads(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "link", Ports(), {"block_bits": 50_000, "intensities": [0.4, 0.1, 0.001]})
    secret = (folder.path / "initial.secret").read_bytes()
    assert folder.virtual
    assert folder.configs["alice"].settings().digest() == folder.configs["bob"].settings().digest()
    assert folder.configs["bob"].protocol.block_bits == 50_000
    for file in [folder.path / "initial.secret", *folder.path.glob("tls/*.key")]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = open_folder(tmp_path / "link", Ports(), {"block_bits": 90_000})
    assert again.configs["alice"].protocol.block_bits == 50_000
    assert (again.path / "initial.secret").read_bytes() == secret


def test_real_ports_are_both_given_exist_and_stay(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="neither"):
        Ports("/dev/null")
    with pytest.raises(ToolError, match="no serial port"):
        Ports("/dev/null", str(tmp_path / "missing"))
    folder = open_folder(tmp_path / "link", Ports("/dev/null", "/dev/zero"))
    assert not folder.virtual
    assert not folder.simulated
    assert open_folder(tmp_path / "link", Ports()).configs["bob"].serial_port == Path("/dev/zero")
    with pytest.raises(ToolError, match="another serial port"):
        open_folder(tmp_path / "link", Ports("/dev/zero", "/dev/null"))
    (folder.path / "initial.secret").chmod(0o644)
    with pytest.raises(ToolError, match="0600"):
        open_folder(tmp_path / "link", Ports())
