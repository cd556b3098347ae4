"""Rounds end to end without sockets: exact sums, refusals, crashes at every step."""

import pytest
from hospital_rig import Rig, ward

from qepa_server.config import LearningConfig
from qepa_uplink.envelope import sign
from qepa_uplink.messages import CellVoid, Partial
from qepa_wire.discrete_gaussian import tail


def expected_sum(rig, stream, n_words, round_):
    boards = [b for g in rig.gateways.values() for b in g.boards.values()]
    return [sum(column) for column in zip(*(b.values(stream, n_words, round_) for b in boards), strict=True)]


def sums(rig, number):
    return {(r.cell, r.stream): r for r in rig.hospital.ledger.sums(number)}


def audited(rig):
    from sqlalchemy import select

    from qepa_server.audit import chain
    from qepa_server.store.schema import audit

    with rig.store.read() as connection:
        chain.verify(connection)
        return [row.event for row in connection.execute(select(audit).order_by(audit.c.seq))]


@pytest.mark.parametrize(
    ("gateways", "each", "learning", "words_each"),
    [
        (1, 12, {}, 72),
        (3, 4, {}, 72),
        (1, 12, {"hidden": 10}, 224),
        (3, 4, {"features": 20, "hidden": 10, "classes": 2, "decay": 0}, 232),
        (1, 12, {"features": 29, "classes": 8}, 240),
    ],
)
def test_sums_are_exact_and_the_model_moves(tmp_path, gateways, each, learning, words_each):
    """Updates of both kinds of model, up to the most words there may be: 240, or 7.68 kbit."""
    config = LearningConfig(**learning)
    rig = Rig(tmp_path, ward(gateways, each), learning=config, max_rounds=2, gateways_expected=gateways)
    words = list(rig.hospital.registry.current.words)
    assert len(words) == words_each
    ships = words_each == 72 and not config.hidden  # the shape of the model that ships: it decays towards that
    assert any(words) == bool(config.hidden or ships)
    start = list(words) if ships else [0] * words_each
    rig.connect()
    rig.pass_time(6)
    assert rig.hospital.rounds.finished
    for number in (1, 2):
        for stream, n_words in ((1, 16), (2, words_each)):
            record = sums(rig, number)[(1, stream)]
            assert list(record.total) == expected_sum(rig, stream, n_words, number)
            assert record.patients == 12
    for number in (1, 2):
        total = expected_sum(rig, 2, words_each, number)
        if config.decay:
            words = [w - (w - s + config.decay // 2) // config.decay for w, s in zip(words, start, strict=True)]
        words = [w + (config.rate_numerator * t + 6) // 12 for w, t in zip(words, total, strict=True)]
    assert list(rig.hospital.registry.current.words) == words
    assert {g.model_version for g in rig.gateways.values()} == {3}
    assert all(not g.spool for g in rig.gateways.values())
    newest = rig.state()["rounds"][0]
    assert newest["state"] == "done"
    assert newest["contributors"] == newest["patients"] == 12
    assert newest["heart_rate"]["boards"] == 12
    assert newest["cells"][0]["state"] == "summed"


def test_two_of_three_partial_sums_do_not_open(tmp_path):
    from qepa_server.errors import UnmaskError
    from qepa_server.unmask.opening import Limits, open_cell
    from qepa_wire.keys import COHORT_CHECK, derive
    from qepa_wire.payloads import StreamOrder, terms_key

    rig = Rig(tmp_path, ward(3, 4), gateways_expected=3, min_group=5)
    rig.connect()
    rig.pass_time(1)
    partials = [next(p for p in g.done[1] if p.stream == 2) for g in rig.gateways.values()]
    gateway = rig.gateways["gw-1"]
    spec = next(s for s in gateway.opening.streams if s.stream == 2)
    order = StreamOrder(2, spec.n_words, spec.bound, spec.q_max, spec.rounding, 0, spec.clip_norm)
    cohort = derive(next(iter(gateway.boards.values())).cohort_key, COHORT_CHECK)
    check = terms_key(cohort, gateway.opening.model_version, gateway.opening.n_max, order)
    records = rig.hospital.register.contributors({b for p in partials for b in p.contributors})
    limits = Limits(72, 1024, 4096, 5)
    names = [p.gateway for p in partials]
    whole = open_cell(partials, names, records, check, limits, round_=1, stream=2)
    assert list(whole.total) == expected_sum(rig, 2, 72, 1)
    # The server pretends that a third gateway never was: the pair masks with it stay on.
    for left_out in range(3):
        rest = [p for i, p in enumerate(partials) if i != left_out]
        with pytest.raises(UnmaskError, match="check"):
            open_cell(rest, [p.gateway for p in rest], records, check, limits, round_=1, stream=2)
        with pytest.raises(UnmaskError, match="incomplete"):
            open_cell(rest, names, records, check, limits, round_=1, stream=2)
    for alone in partials:
        with pytest.raises(UnmaskError, match="check"):
            open_cell([alone], [alone.gateway], records, check, Limits(72, 1024, 4096, 1), round_=1, stream=2)


def flip(partial):
    data = bytearray(partial.sealed)
    data[5] ^= 1
    return partial.model_copy(update={"sealed": bytes(data)})


def drop_one(partial):
    return partial.model_copy(update={"contributors": partial.contributors[1:]})


def foreign(partial):
    return partial.model_copy(update={"contributors": (*partial.contributors, 999)})


def twice(partial):
    return partial.model_copy(update={"contributors": (*partial.contributors, partial.contributors[0])})


@pytest.mark.parametrize(
    ("tamper", "reason"), [(flip, "check"), (drop_one, "check"), (foreign, "board"), (twice, "repeated")]
)
def test_an_altered_partial_voids_its_cell_and_is_audited(tmp_path, tamper, reason):
    rig = Rig(tmp_path, ward(1, 12), max_rounds=1)
    rig.gateways["gw-1"].tamper = lambda p: tamper(p) if p.stream == 2 else p
    rig.connect()
    rig.pass_time(3)
    record = sums(rig, 1)[(1, 2)]
    assert record.state == "void"
    assert record.reason.startswith(reason)
    assert record.total is None
    assert sums(rig, 1)[(1, 1)].state == "summed"
    assert rig.hospital.registry.current.version == 1
    assert "cell.void" in audited(rig)


def test_too_few_patients_void_the_round_and_say_so(tmp_path):
    rig = Rig(tmp_path, ward(1, 9), max_rounds=1)
    rig.connect()
    rig.pass_time(3)
    record = rig.hospital.ledger.last()
    assert record.state == "void"
    assert "9 patients, min_group is 10" in record.reason
    assert not rig.gateways["gw-1"].done


def test_patients_are_counted_by_the_servers_own_records(tmp_path):
    layout = ward(1, 12)
    for board in layout["gw-1"][:4]:
        board.patient = "p-same"
    rig = Rig(tmp_path, layout, max_rounds=1)
    gateway = rig.gateways["gw-1"]
    honest = gateway.on_open

    def lie(message):
        for i, board in enumerate(gateway.boards.values()):
            board.patient = f"x-{i}"
        honest(message)

    gateway.on_open = lie
    rig.connect()
    rig.pass_time(6)
    assert rig.hospital.refused["patients"] >= 1
    assert rig.hospital.ledger.last().state == "void"


def test_a_repeated_partial_is_acknowledged_and_a_different_one_refused(tmp_path):
    rig = Rig(tmp_path, ward(3, 4), max_rounds=1, gateways_expected=3)
    rig.connect()
    rig.pass_time(3)
    first = rig.gateways["gw-1"]
    partial = next(p for p in first.done[1] if p.stream == 2)
    total = sums(rig, 1)[(1, 2)].total
    first.spool[partial.id] = partial
    first.resend()
    rig.pump()
    assert not first.spool
    rig.to_server.append(("gw-1", sign(first.identity, flip(partial))))
    rig.pump()
    assert rig.hospital.refused["conflict"] == 1
    assert "partial.conflict" in audited(rig)
    assert sums(rig, 1)[(1, 2)].total == total


def test_a_partial_in_anothers_name_is_refused(tmp_path):
    rig = Rig(tmp_path, ward(3, 4), gateways_expected=3)
    rig.gateways["gw-2"].silent = True
    rig.connect()
    rig.pass_time(4)
    thief = rig.gateways["gw-3"]
    stolen = Partial(
        id="x",
        round=1,
        cell=1,
        stream=1,
        gateway="gw-2",
        contributors=(),
        patients=0,
        n_words=16,
        sealed=bytes(80),
        last_frame_ms=0,
    )
    rig.to_server.append(("gw-3", sign(thief.identity, stolen)))
    rig.to_server.append(("gw-2", sign(thief.identity, stolen)))
    rig.pump()
    assert rig.hospital.refused["sender"] == 2


def test_a_silent_gateway_voids_its_cell_and_a_void_cell_never_opens(tmp_path):
    rig = Rig(tmp_path, ward(3, 4), max_rounds=1, gateways_expected=3)
    late = rig.gateways["gw-2"]
    held = []
    honest = late.send

    def hold(data):
        from qepa_uplink.envelope import parse, peek
        from qepa_uplink.session import is_sealed

        if not is_sealed(data) and isinstance(peek(parse(data)), Partial):
            held.append(data)
        else:
            honest(data)

    late.send = hold
    rig.connect()
    rig.pass_time(9)
    assert len(held) >= 2
    record = rig.hospital.ledger.last()
    assert record.state == "void"
    assert "gw-2" in record.reason
    late.send = honest
    rig.pass_time(2)
    assert {r.state for r in sums(rig, 1).values()} == {"void"}
    assert not late.spool  # its fate is durable, so it was acknowledged


def test_a_cell_void_ends_the_cell(tmp_path):
    rig = Rig(tmp_path, ward(3, 4), max_rounds=1, gateways_expected=3)
    third = rig.gateways["gw-3"]

    def give_up(message):
        third.done[message.round] = []
        for stream in (1, 2):
            void = CellVoid(id=f"v-{stream}", round=1, cell=1, stream=stream, gateway="gw-3", reason="count missing")
            third.spool[void.id] = void
            third.send(sign(third.identity, void))

    third.on_start = give_up
    rig.connect()
    rig.pass_time(3)
    assert not third.spool
    assert rig.hospital.ledger.last().state == "void"
    assert "count missing" in rig.hospital.ledger.last().reason


def drop_types(rig, *names):
    """CrashError the server just before it would send a message of these types."""
    from qepa_uplink.envelope import parse, peek
    from qepa_uplink.session import is_sealed

    class CrashError(Exception):
        pass

    def send(gateway, data):
        if not is_sealed(data) and type(peek(parse(data))).__name__ in names:
            raise CrashError
        rig.to_gateways.append((gateway, data))

    return CrashError, send


@pytest.mark.parametrize("when", ["RoundOpen", "RoundStart", "ModelRelease"])
def test_a_crash_before_a_message_leaves_goes_on_with_the_same_round(tmp_path, when):
    rig = Rig(tmp_path, ward(3, 4), max_rounds=1, gateways_expected=3)
    rig.connect()
    crash, send = drop_types(rig, when)
    rig.hospital.outbox.transmit = send
    with pytest.raises(crash):
        rig.pass_time(5)
    rig.to_server.clear()
    rig.crash()
    rig.pass_time(6)
    assert rig.hospital.ledger.find(1).state == "done"
    assert list(sums(rig, 1)[(1, 2)].total) == expected_sum(rig, 2, 72, 1)
    last = rig.hospital.ledger.last().number  # max_rounds counts from each start
    assert {g.model_version for g in rig.gateways.values()} == {last + 1}
    assert audited(rig).count("sum.opened") == 2 * last


@pytest.mark.parametrize("lost_after", range(1, 14))
def test_a_crash_after_any_message_opens_each_sum_once(tmp_path, lost_after):
    """Kill the server after its n-th message in; boards (in the rig) fail the test if a mask is used twice."""
    rig = Rig(tmp_path, ward(3, 4), max_rounds=1, gateways_expected=3)
    rig.connect()
    seen = 0
    receive = rig.hospital.receive

    class CrashError(Exception):
        pass

    def count(gateway, data):
        nonlocal seen
        receive(gateway, data)
        seen += 1
        if seen == lost_after:
            raise CrashError

    rig.hospital.receive = count
    with pytest.raises(CrashError):
        rig.pass_time(8)
    rig.crash()
    rig.pass_time(10)
    last = rig.hospital.ledger.last()
    assert last.state == "done"
    events = audited(rig)
    assert events.count("sum.opened") == 2 * last.number
    assert list(sums(rig, last.number)[(1, 1)].total) == expected_sum(rig, 1, 16, last.number)


def test_round_numbers_rise_over_restarts(tmp_path):
    rig = Rig(tmp_path, ward(1, 12), max_rounds=1)
    rig.connect()
    rig.pass_time(3)
    rig.crash()
    rig.pass_time(6)
    assert rig.hospital.ledger.last().number == 2


@pytest.mark.parametrize(
    "change", [{"bound": 2048}, {"noise_q8": 0}, {"clip_norm": 10**6}], ids=lambda change: next(iter(change))
)
def test_a_gateway_that_hands_its_boards_other_terms_fails_the_check(tmp_path, change):
    rig = Rig(tmp_path, ward(1, 12), LearningConfig(noise_variance=4, clip_norm=3072))
    rig.connect()
    gateway = rig.gateways["gw-1"]
    honest = gateway.partial

    def altered(opening, cell, spec, boards):
        return honest(opening, cell, spec.model_copy(update=change) if spec.stream == 2 else spec, boards)

    gateway.partial = altered
    rig.pass_time(1)
    assert gateway.opening.streams[1].noise_q8 == 1024
    cells = rig.hospital_cells(1, 2)
    assert cells
    assert all(cell["state"] == "void" and "check" in cell["reason"] for cell in cells)
    assert all(cell["state"] == "summed" for cell in rig.hospital_cells(1, 1))


def test_noise_that_boards_add_is_within_the_range_that_the_server_allows(tmp_path):
    """Every word of every board as far out as quantizer and noise together can bring it."""
    rig = Rig(tmp_path, ward(1, 12), LearningConfig(noise_variance=4, clip_norm=3072))
    rig.connect()
    reach = 1024 + tail(1024)
    for board in rig.gateways["gw-1"].boards.values():
        measured = board.values
        board.values = lambda stream, n, round_, measured=measured: (
            [reach] * n if stream == 2 else measured(stream, n, round_)
        )
    rig.pass_time(1)
    (cell,) = rig.hospital_cells(1, 2)
    assert (cell["state"], cell["sum"][0]) == ("summed", 12 * reach)
