"""Registry, signing state, robust rules, learning, store, audit, configuration."""

import hashlib
import json

import numpy as np
import pytest
from hospital_rig import Rig, configuration, ward
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text, update

from qepa_server.audit import chain
from qepa_server.config import LearningConfig, load
from qepa_server.errors import AuditError, ConfigError, ServerError, StoreError
from qepa_server.planning import plan_rounds
from qepa_server.registry.signer import HssSigner
from qepa_server.robust.aggregate import ClippedTrimmedMean, clip_norms
from qepa_server.rounds.statistics import heart_rate
from qepa_server.store.database import Store, migrate, use_sqlite
from qepa_server.store.schema import audit, metadata
from qepa_server.store.vault import Vault
from qepa_server.training.averaging import LearningRule
from qepa_server.training.initial import initial_model
from qepa_wire import lms
from qepa_wire.model import decode_model, encode_model


@pytest.fixture
def vault(tmp_path):
    return Vault.open(tmp_path / "kek", create=True)


def leaf(signature):
    """(leaf of the root tree, leaf of the lower tree) of a two-level HSS signature with h = 5, w = 4."""
    lms_bytes = 4 + 4 + 32 * 68 + 4 + 32 * 5
    return int.from_bytes(signature[4:8], "big"), int.from_bytes(signature[4 + lms_bytes + 56 :][:4], "big")


def test_signatures_verify_and_no_one_time_key_signs_twice_over_crashes(tmp_path, vault):
    path = tmp_path / "key"
    signer = HssSigner.generate(path, vault, height=5)
    public, used = signer.public_key, []
    for i in range(40):  # beyond one lower tree of 32
        signature = signer.sign(b"model %d" % i)
        lms.verify(public, b"model %d" % i, signature)
        used.append((signature[4 + 2348 :][:56], leaf(signature)))
        if i % 3 == 0:  # the process dies: only the file remains
            signer = HssSigner.load(path, vault, public_key=public, used_at_least=i + 1)
    assert len(set(used)) == 40
    lower_trees = {(root_leaf, tree) for tree, (root_leaf, _) in used}
    assert len({root_leaf for root_leaf, _ in lower_trees}) == len(lower_trees)  # nor does one of the root tree


def test_the_state_is_on_disk_before_a_signature_leaves(tmp_path, vault, monkeypatch):
    path = tmp_path / "key"
    signer = HssSigner.generate(path, vault, height=5)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "no space")

    monkeypatch.setattr("qepa_server.registry.signer.write_private", full_disk)
    with pytest.raises(OSError, match="no space"):
        signer.sign(b"x")
    assert path.read_bytes() == before


def test_an_older_or_foreign_signing_key_is_refused(tmp_path, vault):
    path = tmp_path / "key"
    signer = HssSigner.generate(path, vault, height=5)
    backup = path.read_bytes()
    signer.sign(b"x")
    path.write_bytes(backup)
    with pytest.raises(StoreError, match="older than its last use"):
        HssSigner.load(path, vault, public_key=signer.public_key, used_at_least=1)
    with pytest.raises(StoreError, match="not the model signing key"):
        HssSigner.load(path, vault, public_key=bytes(60), used_at_least=0)
    path.write_bytes(backup[:-1] + bytes([backup[-1] ^ 1]))
    with pytest.raises(StoreError, match="does not open"):
        HssSigner.load(path, vault, public_key=signer.public_key, used_at_least=0)


def test_key_files_of_others_are_refused(tmp_path, vault):
    (tmp_path / "kek").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        Vault.open(tmp_path / "kek", create=True)
    (tmp_path / "kek").chmod(0o600)
    with pytest.raises(StoreError, match="does not open"):
        vault.open_sealed(vault.seal(b"secret", "a"), "b")


cells = st.integers(3, 9).flatmap(
    lambda n: st.lists(st.lists(st.floats(-100, 100), min_size=4, max_size=4), min_size=n, max_size=n)
)


@given(cells)
def test_the_trimmed_mean_stays_between_honest_cells_whatever_one_cell_says(means):
    rule = ClippedTrimmedMean(norm_bound=1e9, trim_fraction=0.34)
    honest = np.array(means)
    hostile = np.vstack([honest, [1e8, -1e8, 1e8, 0]])
    result = rule(hostile)
    assert (result >= honest.min(axis=0) - 1e-6).all()
    assert (result <= honest.max(axis=0) + 1e-6).all()


@given(cells)
def test_clipping_bounds_every_cell_and_leaves_small_ones_alone(means):
    clipped = clip_norms(np.array(means), 50.0)
    norms = np.linalg.norm(np.array(means), axis=1)
    assert (np.linalg.norm(clipped, axis=1) <= 50.0 + 1e-9).all()
    assert np.allclose(clipped[norms <= 50], np.array(means)[norms <= 50])


@given(st.integers(1, 60), st.lists(st.integers(-1024, 1024), min_size=3, max_size=3), st.sampled_from([0, 1, 16]))
def test_one_cell_moves_the_model_by_exact_integers(n, per_board, decay):
    total = [n * v + (i if n > 1 else 0) for i, v in enumerate(per_board)]
    words = [32000, 7, -32760]
    kept = [w - ((w + decay // 2) // decay if decay else 0) for w in words]
    exact = [max(-32767, min(32767, w + (2 * t + n // 2) // n)) for w, t in zip(kept, total, strict=True)]
    rule = LearningRule(rate=2.0, word_limit=32767, units_per_step=1.0, decay=decay)
    assert list(rule.apply(words, np.array(total) / n)) == exact


def test_without_updates_the_model_decays_to_what_it_started_from():
    start = (900, -900, 0, 20_000)
    rule = LearningRule(rate=1.0, word_limit=32767, units_per_step=1.0, decay=8, towards=start)
    words = (20_000, 20_000, -20_000, -20_000)
    for _ in range(100):
        words = rule.apply(words, np.zeros(4))
    assert max(abs(w - s) for w, s in zip(words, start, strict=True)) <= 4
    assert rule.apply(start, np.zeros(4)) == start
    with pytest.raises(ValueError, match="4 words to decay to for 3 words"):
        rule.apply(start[:3], np.zeros(3))


def test_without_updates_the_model_decays_to_nothing_from_both_sides():
    rule = LearningRule(rate=4.0, word_limit=32767, units_per_step=1.0, decay=16)
    words = (32767, -32767, 8, -8)
    for _ in range(200):
        words = rule.apply(words, np.zeros(4))
    assert max(map(abs, words)) <= 8


def test_the_first_model_is_zeros_or_public_random_words_that_fit():
    assert set(initial_model(features=17, hidden=0, classes=4, fraction_bits=12).words) == {0}
    first = initial_model(features=17, hidden=10, classes=4, fraction_bits=12)
    assert decode_model(encode_model(first)) == first
    # What SHAKE-256 gives for the seed 0, worked out by hand of the docstring.
    drawn = hashlib.shake_256(b"qepa/1/model/initial" + bytes([0, 0, 0, 0, 17, 10, 4])).digest(224 * 4)
    draws = [int.from_bytes(drawn[4 * k : 4 * k + 4], "little") for k in range(224)]
    units, classes = np.array(first.words[:180]).reshape(10, 18), np.array(first.words[180:]).reshape(4, 11)
    assert units[3, 5] == draws[3 * 18 + 5] * 4867 // 2**32 - 2433
    assert classes[2, 9] == draws[180 + 2 * 11 + 9] * 5363 // 2**32 - 2681
    assert not units[:, -1].any()
    assert not classes[:, -1].any()
    assert 2200 < np.abs(units).max() <= 2433
    assert np.unique(units[:, 0]).size == 10, "units that begin alike stay alike"
    assert initial_model(features=17, hidden=10, classes=4, fraction_bits=12, seed=1).words != first.words
    with pytest.raises(ValueError, match="no model has"):
        initial_model(features=17, hidden=10, classes=1, fraction_bits=12)


def test_a_model_that_is_too_large_or_of_another_shape_than_the_stored_one_is_refused_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="at most 240 words, this one 246"):
        plan_rounds(configuration(tmp_path, LearningConfig(hidden=11)))
    rig = Rig(tmp_path, ward(1, 12))
    rig.config = configuration(tmp_path, LearningConfig(hidden=10))
    rig.store.close()
    with pytest.raises(ServerError, match="another shape"):
        rig.start()


def test_heart_rate_of_several_cells_and_of_none():
    a = [2, 130, 8500, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    b = [1, 80, 6400, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    found = heart_rate([a, b])
    assert (found.boards, found.mean_bpm) == (3, 70.0)
    assert found.histogram == (0, 0, 0, 2, 1, 0, 0, 0)
    assert heart_rate([]) is None
    assert heart_rate([[0] * 16]) is None


def test_migrations_build_exactly_the_tables_of_the_schema(tmp_path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


@pytest.mark.parametrize("at", [1, 7, 16, 18])
def test_a_migration_that_is_cut_off_leaves_nothing_and_is_done_again(tmp_path, at):
    from sqlalchemy import event, inspect

    engine = create_engine(f"sqlite:///{tmp_path / 'server.db'}")
    use_sqlite(engine)
    seen = 0

    def power_cut(_connection, _cursor, statement, *_):
        nonlocal seen
        seen += "CREATE TABLE" in statement and "alembic" not in statement
        if seen == at:
            raise OSError("power cut")

    event.listen(engine, "before_cursor_execute", power_cut)
    with pytest.raises(OSError, match="power cut"):
        migrate(engine)
    seen = 100
    assert not set(metadata.tables) & set(inspect(engine).get_table_names())
    engine.dispose()
    Store.open(tmp_path).close()


def test_the_database_is_durable_and_held_by_one_server(tmp_path):
    store = Store.open(tmp_path)
    with store.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    with pytest.raises(StoreError, match="in use by another server"):
        Store.open(tmp_path)
    store.close()
    (tmp_path / "server.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot open the database"):
        Store.open(tmp_path)


@pytest.mark.parametrize("harm", ["change", "drop", "cut"])
def test_the_audit_chain_shows_changes(tmp_path, harm):
    store = Store.open(tmp_path)
    with store.write() as connection:
        for i in range(5):
            chain.append(connection, i, "event", number=i)
        noted = chain.head(connection)
        assert chain.verify(connection, noted) == 5
    with store.write() as connection:
        if harm == "change":
            connection.execute(update(audit).where(audit.c.seq == 3).values(detail=json.dumps({"number": 9})))
        elif harm == "drop":
            connection.execute(audit.delete().where(audit.c.seq == 3))
        else:
            connection.execute(audit.delete().where(audit.c.seq == 5))
    with store.read() as connection, pytest.raises(AuditError):
        chain.verify(connection, noted)
    store.close()


GOOD = 'state_dir = "s"\nidentity = "i"\nroot_key = "r"\n'


@pytest.mark.parametrize(
    ("text_", "said"),
    [
        ("state_dir = 3", "state_dir"),
        ("nonsense", "not TOML"),
        (GOOD + "[rounds]\nmin_group = 4", "min_group"),
        (GOOD + "[rounds]\nmin_group = 13", "cell_target 12 is below min_group 13"),
        (GOOD + "[learning]\nq_max = 1000000", "4096 * 1000000 = 4096000000 is not below 2^31"),
        (GOOD + "[learning]\nq_max = 500000\nnoise_variance = 16000000", r"noise of 37971\) = 4096 * 537971"),
        (GOOD + "[learning]\nnoise_variance = -1", "noise_variance"),
        (GOOD + "[statistics]\nclip_norm = 4294967296", "clip_norm"),
        (GOOD + "[learning]\nfeatures = 60", "at most 240 words"),
        (GOOD + "surprise = 1", "surprise"),
        (GOOD + '[api]\nhost = "0.0.0.0"', "whoever reaches 0.0.0.0 reads all"),
        (GOOD + '[api]\nhost = "ward.example"', "behind_gate = true"),
    ],
)
def test_configurations_that_do_not_hold_are_refused_in_a_sentence(tmp_path, text_, said):
    path = tmp_path / "server.toml"
    path.write_text(text_)
    with pytest.raises(ConfigError, match=said.replace("*", r"\*").replace("^", r"\^")) as caught:
        plan_rounds(load(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("api", ['host = "::1"', 'host = "localhost"', 'host = "10.0.0.2"\nbehind_gate = true'])
def test_the_api_listens_on_this_machine_or_behind_a_gate(tmp_path, api):
    path = tmp_path / "server.toml"
    path.write_text(GOOD + f"[api]\n{api}\n")
    assert load(path).api.host in api


def test_noise_is_off_unless_configured_and_never_rounded_down(tmp_path):
    path = tmp_path / "server.toml"
    path.write_text(GOOD)
    assert [(spec.noise_q8, spec.clip_norm) for spec in plan_rounds(load(path)).streams] == [(0, 0), (0, 0)]
    path.write_text(GOOD + "[statistics]\nnoise_variance = 2.001\n[learning]\nnoise_variance = 9\nclip_norm = 3072")
    assert [(spec.noise_q8, spec.clip_norm) for spec in plan_rounds(load(path)).streams] == [(513, 0), (2304, 3072)]


def test_secrets_are_in_no_representation(tmp_path):
    rig = Rig(tmp_path, ward(1, 2))
    board = rig.hospital.register[101]
    key = next(iter(rig.gateways["gw-1"].boards.values())).end_key
    shown = repr(board) + repr(rig.hospital.register.contributors({101}))
    assert repr(key) not in shown
    assert key.hex() not in shown
