"""`qepa privacy`: what patients spent and have left; what a budget buys; the figures of docs/privacy.md."""

import json
import re
from pathlib import Path

import pytest
from hospital_rig import Rig, ward
from typer.testing import CliRunner

from qepa_server.config import BudgetConfig, LearningConfig, PrivacyConfig
from qepa_server.planning import plan_rounds
from qepa_server.privacy.accountant import cost, epsilon, rho_within
from qepa_tools.cli import app
from qepa_tools.privacy.plan import choices
from qepa_uplink.messages import StreamSpec

MANUAL = Path(__file__).parents[3] / "docs" / "privacy.md"
TOML = """
state_dir = "."
identity = "i"
root_key = "r"
[rounds]
min_group = 10
[learning]
noise_variance = 10000
clip_norm = 1000
[privacy.learning]
epsilon = 60
"""


def run(*arguments):
    result = CliRunner().invoke(app, ["privacy", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_account_is_read_beside_a_running_server(tmp_path):
    learning = LearningConfig(noise_variance=10_000, clip_norm=1000)
    rig = Rig(tmp_path, ward(1, 12), learning, PrivacyConfig(learning=BudgetConfig(epsilon=60)), max_rounds=2)
    rig.connect()
    rig.pass_time(5)
    (tmp_path / "server.toml").write_text(TOML)
    code, out, _ = run("--config", str(tmp_path / "server.toml"), "--json")
    assert code == 0
    rows = {(row["patient"], row["purpose"]): row for row in json.loads(out)["patients"]}
    assert len(rows) == 24
    spec = next(spec for spec in plan_rounds(rig.config).streams if spec.stream == 2)
    spent = 2 * cost(spec, [1], 12)
    row = rows["p-1-1", "learning"]
    assert row["rounds"] == 2
    assert row["spent_epsilon"] == pytest.approx(epsilon(spent, 1e-6), abs=1e-4)
    assert row["left_share"] == pytest.approx(1 - spent / rho_within(60, 1e-6), abs=1e-4)
    assert row["rounds_left"] == int((rho_within(60, 1e-6) - spent) // cost(spec, [1], 10))
    plain = rows["p-1-1", "statistics"]
    assert (plain["noiseless_rounds"], plain["spent_epsilon"], plain["left_share"]) == (2, None, None)
    code, out, _ = run("--config", str(tmp_path / "server.toml"))
    assert code == 0
    assert "p-1-12" in out
    assert "no bound" in out
    rig.store.close()
    assert run("--config", str(tmp_path / "server.toml"), "--json")[0] == 0, "the server is down"


def test_what_is_missing_is_said_in_a_sentence(tmp_path):
    code, _, said = run("--config", str(tmp_path / "none.toml"))
    assert (code, said.count("\n")) == (2, 1)
    (tmp_path / "server.toml").write_text(TOML)
    code, _, said = run("--config", str(tmp_path / "server.toml"))
    assert (code, said.count("\n")) == (2, 1)
    assert "has this server run yet" in said
    assert run("plan", "--epsilon", "0")[0] == 2
    assert run("plan", "--rounds", "0")[0] == 2


@pytest.mark.parametrize("purpose", ["statistics", "learning"])
def test_a_plans_settings_keep_its_budget(purpose):
    asked = {"epsilon": 4.0, "delta": 1e-6, "rounds": [1, 20], "groups": [10, 30], "patients": 200}
    found = choices(purpose, **asked)
    assert len(found) == 4
    for choice in found:
        bound, words = (1024, 16) if purpose == "statistics" else (1024, 72)
        spec = StreamSpec(
            stream=2,
            n_words=words,
            bound=bound,
            q_max=choice.q_max,
            rounding=0,
            noise_q8=int(256 * choice.noise_variance),
            clip_norm=choice.clip_norm,
        )
        spent = choice.rounds * cost(spec, [1], choice.min_group)
        assert 0.99 * 4.0 < epsilon(spent, 1e-6) <= 4.0
    assert found[0].noise_variance > found[1].noise_variance, "larger cells need less noise of each board"


def test_the_manuals_figures_are_the_commands():
    code, out, _ = run("plan", "--markdown")
    assert code == 0
    text = MANUAL.read_text()
    for table in out.strip().split("\n\n"):
        assert table in text, "regenerate: qepa privacy plan --markdown"


def test_the_manuals_configuration_starts(tmp_path):
    from qepa_server.config import load

    toml = re.search(r"```toml\n(.*?)```", MANUAL.read_text(), re.S).group(1)
    path = tmp_path / "server.toml"
    path.write_text('state_dir = "s"\nidentity = "i"\nroot_key = "r"\n' + toml)
    budgets = load(path).privacy.budgets
    assert all(budget.epsilon for budget in budgets.values())
    assert len(plan_rounds(load(path)).streams) == 2
