"""The privacy budget: charged before a round is announced, never too little, and nothing is asked for beyond it."""

from pathlib import Path

import pytest
from hospital_rig import Rig, configuration, ward
from sqlalchemy import event, text
from test_retirement import request
from test_rounds import audited, drop_types, sums

from qepa_server.config import BudgetConfig, LearningConfig, PrivacyConfig
from qepa_server.errors import ConfigError
from qepa_server.planning import plan_rounds
from qepa_server.privacy.accountant import cost, epsilon
from qepa_uplink.envelope import sign
from qepa_uplink.messages import Adopted, CellVoid, Welcome

LEARNING = LearningConfig(noise_variance=10_000, clip_norm=1000)
STATISTICS, UPDATE = 1, 2


SPEC = next(spec for spec in plan_rounds(configuration(Path(), LEARNING)).streams if spec.stream == UPDATE)
WORST, ACTUAL = cost(SPEC, [1], 10), cost(SPEC, [1], 12)


def budget(learning_rounds, **more):
    """A budget that holds ``learning_rounds`` rounds of the smallest cell, a little over."""
    limit = epsilon((learning_rounds + 0.01) * WORST, 1e-6)
    return PrivacyConfig(learning=BudgetConfig(epsilon=limit, **more))


def accounts(rig, purpose="learning"):
    return {a.patient: a for a in rig.hospital.privacy.ledger.accounts() if a.purpose == purpose}


def rig_of(tmp_path, learning_rounds=0, **more):
    privacy = budget(learning_rounds) if learning_rounds else PrivacyConfig()
    return Rig(tmp_path, ward(1, 12), LEARNING, privacy, **more)


def test_a_round_is_charged_in_full_before_its_announcement_leaves(tmp_path):
    rig = rig_of(tmp_path, max_rounds=1)
    rig.connect()
    crash, send = drop_types(rig, "RoundOpen")
    rig.hospital.outbox.transmit = send
    with pytest.raises(crash):
        rig.pass_time(2)
    rig.crash()
    found = accounts(rig)
    assert len(found) == 12
    assert all(a.pending == pytest.approx(WORST) and a.rho == 0 for a in found.values())


def test_an_opened_sum_costs_what_its_contributors_noise_left(tmp_path):
    rig = rig_of(tmp_path, max_rounds=1)
    rig.connect()
    rig.pass_time(3)
    assert ACTUAL < WORST
    assert all((a.rho, a.pending, a.rounds) == (pytest.approx(ACTUAL), 0, 1) for a in accounts(rig).values())
    noiseless = accounts(rig, "statistics")["p-1-1"]
    assert (noiseless.rho, noiseless.rounds, noiseless.unbounded) == (0, 1, 1)


def test_a_stream_whose_budget_is_spent_is_not_asked_for_and_the_other_goes_on(tmp_path):
    rig = rig_of(tmp_path, learning_rounds=2, max_rounds=4)
    rig.connect()
    rig.pass_time(10)
    streams = {n: sorted({stream for _, stream in sums(rig, n)}) for n in range(1, 5)}
    assert streams == {1: [1, 2], 2: [1, 2], 3: [1], 4: [1]}
    assert rig.hospital.registry.current.version == 3
    assert [len(b.sealed) for b in rig.gateways["gw-1"].boards.values()] == [6] * 12, "no data was asked for"
    assert audited(rig).count("stream.refused") == 1
    assert rig.hospital.rounds.refusals == ("learning: 0 patients have budget and have not withdrawn, min_group is 10",)
    assert rig.state()["not_asked_for"] == list(rig.hospital.rounds.refusals)
    limit = budget(2).learning.budget.rho
    assert all(account.rho <= limit for account in accounts(rig).values())


def test_who_has_no_budget_left_is_left_out_and_the_others_go_on(tmp_path):
    rig = rig_of(tmp_path, learning_rounds=1, max_rounds=2)
    with rig.store.write() as connection:
        connection.execute(text("INSERT INTO spendings VALUES ('p-1-3', 'learning', 0, 1e6, 9, 0)"))
    rig.connect()
    rig.pass_time(3)
    record = sums(rig, 1)[(1, UPDATE)]
    assert (record.state, record.patients, len(record.boards)) == ("summed", 11, 11)
    assert sums(rig, 1)[(1, STATISTICS)].patients == 12
    assert accounts(rig)["p-1-3"].rho == 1e6


def test_a_budget_is_renewed_with_its_period(tmp_path):
    rig = Rig(tmp_path, ward(1, 12), LEARNING, budget(1, period_days=1))
    rig.connect()
    rig.pass_time(4)
    assert rig.hospital.rounds.refusals
    assert rig.hospital.registry.current.version == 2
    rig.now += 86_400_000
    rig.connect()
    rig.pass_time(1.5)
    assert rig.hospital.registry.current.version == 3
    periods = {a.period for a in rig.hospital.privacy.ledger.accounts() if a.purpose == "learning"}
    assert len(periods) == 2


def test_a_gateway_that_asks_a_barred_board_gets_no_sum(tmp_path):
    rig = rig_of(tmp_path, learning_rounds=1, max_rounds=1)
    with rig.store.write() as connection:
        connection.execute(text("INSERT INTO spendings VALUES ('p-1-3', 'learning', 0, 1e6, 9, 0)"))
    gateway = rig.gateways["gw-1"]
    gateway.asked = lambda _stream: list(gateway.boards.values())
    rig.connect()
    rig.pass_time(4)
    assert sums(rig, 1)[(1, UPDATE)].reason.startswith("budget: p-1-3")
    assert sums(rig, 1)[(1, STATISTICS)].state == "summed"


def test_what_never_came_is_not_charged_and_what_did_not_open_is(tmp_path):
    rig = rig_of(tmp_path, max_rounds=1)
    gateway = rig.gateways["gw-1"]
    quiet = next(iter(gateway.boards.values()))
    asked = gateway.asked
    gateway.asked = lambda stream: [b for b in asked(stream) if b is not quiet or stream == STATISTICS]
    gateway.tamper = lambda partial: (
        partial.model_copy(update={"sealed": bytes(len(partial.sealed))}) if partial.stream == UPDATE else partial
    )
    rig.connect()
    rig.pass_time(4)
    assert sums(rig, 1)[(1, UPDATE)].state == "void"
    found = accounts(rig)
    assert quiet.patient not in found
    assert len(found) == 11
    assert all((a.rho, a.pending) == (pytest.approx(WORST), 0) for a in found.values())


def test_a_round_that_never_starts_costs_nothing(tmp_path):
    rig = Rig(tmp_path, ward(1, 9), LEARNING, max_rounds=1)
    rig.connect()
    rig.pass_time(4)
    assert rig.hospital.ledger.last().state == "void"
    assert not accounts(rig)


@pytest.mark.parametrize("power_cut", range(1, 15))
def test_no_power_cut_charges_too_little(tmp_path, power_cut):
    """The n-th transaction is lost as it commits: whatever sums are on disk, they are paid for, then and after."""
    rig = rig_of(tmp_path, learning_rounds=2, max_rounds=2)
    rig.connect()
    seen = 0

    class PowerCutError(Exception):
        pass

    def cut(_connection):
        nonlocal seen
        seen += 1
        if seen == power_cut:
            raise PowerCutError

    event.listen(rig.store._engine, "commit", cut)
    try:
        rig.pass_time(6)
    except PowerCutError:
        rig.to_server.clear()
        rig.crash()
        check_paid(rig)
        rig.pass_time(10)
    else:
        assert power_cut > 8, "a round has at least eight transactions"
    check_paid(rig)
    assert all(a.rho + a.pending <= budget(2).learning.budget.rho * (1 + 1e-9) for a in accounts(rig).values())


def check_paid(rig):
    opened = [r for n in range(1, 5) for r in rig.hospital.ledger.sums(n) if r.stream == UPDATE and r.state == "summed"]
    found = accounts(rig)
    for patient in {f"p-1-{n}" for n in range(1, 13)} if opened else ():
        assert found[patient].rho + found[patient].pending >= len(opened) * ACTUAL * (1 - 1e-9)


def withdraw(rig, board, purpose="learning"):
    consent_id = bytes([board.number % 256]) * 16
    rig.hospital.consents.accept(rig.consent(board, consent_id, purpose=purpose))
    rig.hospital.consents.withdraw(rig.withdrawal(consent_id))
    rig.pump()


def test_who_withdraws_is_in_no_later_round_and_past_sums_stay(tmp_path):
    rig = rig_of(tmp_path, max_rounds=2, period_s=4)
    rig.connect()
    rig.pass_time(2)
    board = next(iter(rig.gateways["gw-1"].boards.values()))
    before = sums(rig, 1)[(1, UPDATE)]
    assert board.number in before.boards
    spent = accounts(rig)[board.patient].rho
    withdraw(rig, board)
    rig.pass_time(4)
    assert sums(rig, 1)[(1, UPDATE)] == before
    later = sums(rig, 2)
    assert board.number not in later[(1, UPDATE)].boards
    assert board.number in later[(1, STATISTICS)].boards, "that purpose goes on"
    assert accounts(rig)[board.patient].rho == spent
    rig.crash()
    assert rig.hospital.privacy.barred(rig.hospital.register[board.number], rig.now) == (UPDATE,)


def test_a_sum_that_holds_who_has_withdrawn_meanwhile_is_not_opened(tmp_path):
    rig = rig_of(tmp_path, max_rounds=1)
    gateway = rig.gateways["gw-1"]
    board = next(iter(gateway.boards.values()))
    start = gateway.on_start

    def withdraw_then_start(message):
        gateway.on_start = start
        gateway.asked = lambda _stream: list(gateway.boards.values())
        withdraw(rig, board)
        start(message)

    gateway.on_start = withdraw_then_start
    rig.connect()
    rig.pass_time(4)
    assert sums(rig, 1)[(1, UPDATE)].reason.startswith("consent")
    assert sums(rig, 1)[(1, STATISTICS)].state == "summed"


def test_where_consent_is_required_only_who_gave_it_takes_part(tmp_path):
    rig = Rig(tmp_path, ward(1, 12), LEARNING, PrivacyConfig(consent_required=True), max_rounds=1)
    rig.connect()
    rig.pass_time(3)
    assert rig.hospital.ledger.last() is None
    assert len(rig.hospital.rounds.refusals) == 2
    for board in list(rig.gateways["gw-1"].boards.values())[:10]:
        rig.hospital.consents.accept(rig.consent(board, bytes([board.number % 256]) * 16, purpose="statistics"))
    rig.pass_time(4)
    assert {key: (r.state, r.patients) for key, r in sums(rig, 1).items()} == {(1, STATISTICS): ("summed", 10)}


def test_a_consent_to_sums_lets_nobody_watch(tmp_path):
    rig = rig_of(tmp_path)
    rig.connect()
    board = next(iter(rig.gateways["gw-1"].boards.values()))
    rig.hospital.consents.accept(rig.consent(board, b"s" * 16, purpose="statistics"))
    rig.pass_time(2)
    assert not rig.gateways["gw-1"].grants
    assert not rig.hospital.consents.watched(board.number, rig.now)


def test_gateways_hear_which_boards_are_barred(tmp_path):
    rig = rig_of(tmp_path)
    rig.connect()
    board = next(iter(rig.gateways["gw-1"].boards.values()))
    withdraw(rig, board)
    heard = {each.board: each.barred for each in rig.gateways["gw-1"].welcome.boards}
    assert {number for number, barred in heard.items() if barred} == {board.number}
    assert heard[board.number] == (UPDATE,)
    assert Welcome(boards=(Adopted(board=1, patient="p-1"),)).boards[0].barred == ()


@pytest.mark.parametrize(
    ("learning", "privacy", "said"),
    [
        (LearningConfig(), {"learning": {"epsilon": 1}}, "needs a learning.noise_variance of at least 0.25"),
        (LEARNING, {"learning": {"epsilon": 8}, "colluding_boards": 10}, "more boards in min_group"),
        (LEARNING, {"learning": {"epsilon": 0.1}}, "one round of learning costs epsilon"),
        (LEARNING, {"statistics": {"epsilon": 1}}, "needs a statistics.noise_variance"),
    ],
)
def test_budgets_that_no_round_can_keep_are_refused_at_the_start(tmp_path, learning, privacy, said):
    with pytest.raises(ConfigError, match=said):
        plan_rounds(configuration(tmp_path, learning, PrivacyConfig.model_validate(privacy)))


def test_noise_of_colluding_boards_is_not_counted(tmp_path):
    rig = Rig(tmp_path, ward(1, 12), LEARNING, PrivacyConfig(colluding_boards=4), max_rounds=1)
    rig.connect()
    rig.pass_time(3)
    assert accounts(rig)["p-1-1"].rho == pytest.approx(cost(SPEC, [1], 8))


def all_are_charged(rig):
    found = accounts(rig)
    return len(found) == 12 and all((a.rho, a.pending) == (pytest.approx(WORST), 0) for a in found.values())


def test_what_came_after_its_sum_was_void_is_charged(tmp_path):
    rig = rig_of(tmp_path, max_rounds=1)
    gateway = rig.gateways["gw-1"]

    def void_first(partial):
        about = {"round": partial.round, "cell": partial.cell, "stream": partial.stream}
        if partial.stream == UPDATE:
            gateway.send(sign(gateway.identity, CellVoid(id="v", gateway="gw-1", reason="tired", **about)))
        return partial

    gateway.tamper = void_first
    rig.connect()
    rig.pass_time(4)
    assert sums(rig, 1)[(1, UPDATE)].reason == "gw-1: tired"
    assert all_are_charged(rig)


def test_both_of_two_partial_sums_for_one_place_are_charged(tmp_path):
    rig = rig_of(tmp_path, max_rounds=1)
    gateway = rig.gateways["gw-1"]

    def half_first(partial):
        if partial.stream == UPDATE:
            half = partial.model_copy(update={"contributors": partial.contributors[:6]})
            gateway.send(sign(gateway.identity, half))
        return partial

    gateway.tamper = half_first
    rig.connect()
    rig.pass_time(4)
    assert rig.hospital.refused["conflict"] >= 1
    assert all_are_charged(rig)


def test_what_comes_when_its_round_is_long_over_is_charged_once(tmp_path):
    rig = rig_of(tmp_path, max_rounds=2, period_s=20)
    gateway, kept = rig.gateways["gw-1"], []
    send = gateway.send
    gateway.tamper = lambda partial: kept.append(partial) or partial
    gateway.send = lambda data: None if kept else send(data)
    gateway.resend = lambda: None
    rig.connect()
    rig.pass_time(15)
    assert sums(rig, 1)[(1, UPDATE)].reason.startswith("nothing of gw-1")
    assert not accounts(rig)
    for _ in range(2):
        for partial in kept:
            send(sign(gateway.identity, partial))
        rig.pump()
        assert all_are_charged(rig)
    assert gateway.acked


def test_who_is_retired_while_data_is_under_way_is_charged(tmp_path):
    rig = rig_of(tmp_path, max_rounds=1)
    gateway = rig.gateways["gw-1"]
    board = next(iter(gateway.boards.values()))

    def retire(partial):
        if board.number in rig.hospital.register:
            rig.hospital.retirement.retire(request(rig, board))
        return partial

    gateway.tamper = retire
    rig.connect()
    rig.pass_time(4)
    assert all_are_charged(rig)


def test_no_gateway_charges_patients_of_another(tmp_path):
    rig = Rig(tmp_path, ward(2, 12), LEARNING, max_rounds=1, gateways_expected=2)
    rig.gateways["gw-2"].on_start = lambda _message: None
    others = tuple(rig.gateways["gw-2"].boards)
    rig.gateways["gw-1"].tamper = lambda partial: partial.model_copy(
        update={"contributors": (*partial.contributors, *others)}
    )
    rig.connect()
    rig.pass_time(12)
    assert rig.hospital.ledger.last().settled_ms is not None
    found = accounts(rig)
    assert found
    assert not {patient for patient in found if patient.startswith("p-2-")}
