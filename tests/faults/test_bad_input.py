"""Bad input: what parties, disks, clocks and people may do wrong, and what becomes of it. Refused or survived, counted.

`CASES` lists them all with the tests that show it, here and elsewhere.
"""

import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError

sys.path.insert(0, str(Path(__file__).parent))

from hospital_in_memory import UPDATE, Board, Ward

import qepa_gateway.config
import qepa_qkd.config
import qepa_server.config
from qepa_gateway.clock import STEP_MS
from qepa_server.errors import RefusedError
from qepa_wire import frame, payloads

HERE = "tests/faults/test_bad_input.py"
GATEWAY, SERVER = "tests/unit/gateway", "tests/unit/server"
CASES = {
    "two boards of one number": [f"{HERE}::test_a_number_that_two_boards_have_is_served_where_it_was_enrolled_last"],
    "a cloned board": [f"{HERE}::test_a_clone_gets_no_second_vector_into_a_round"],
    "a counter rolled back, board": [
        f"{GATEWAY}/test_frames.py::test_frames_left_of_the_window_are_replays",
        f"{GATEWAY}/test_frames.py::test_other_bytes_under_a_number_seen_before_are_refused",
        f"{GATEWAY}/test_frames.py::test_a_rekeyed_board_goes_on_and_old_hellos_are_refused",
        f"{GATEWAY}/test_one_time.py::test_bytes_that_were_used_are_refused",
    ],
    "a counter rolled back, gateway or server from a backup": [
        f"{HERE}::test_a_gateway_from_a_backup_is_refused",
        f"{HERE}::test_a_server_from_a_backup_sums_nothing_again",
        f"{SERVER}/test_parts.py::test_an_older_or_foreign_signing_key_is_refused",
    ],
    "mixed models": [
        f"{HERE}::test_an_update_of_another_model_is_not_in_the_sum",
        "tests/unit/board_app/test_round_answers.py::test_a_model_that_is_replaced_while_statistics_are_sealed_gives_no_update",
    ],
    "a wrong quantizer": [
        f"{HERE}::test_a_board_that_seals_under_other_terms_voids_its_cell",
        f"{SERVER}/test_rounds.py::test_a_gateway_that_hands_its_boards_other_terms_fails_the_check",
        f"{GATEWAY}/test_round.py::test_an_unsafe_opening_is_refused",
    ],
    "a gateway that leaves out, adds or repeats contributors": [
        f"{SERVER}/test_rounds.py::test_an_altered_partial_voids_its_cell_and_is_audited",
        f"{SERVER}/test_opening.py::test_boards_enrolled_elsewhere_do_not_count",
        f"{SERVER}/test_rounds.py::test_patients_are_counted_by_the_servers_own_records",
    ],
    "two sums for one round": [
        f"{SERVER}/test_rounds.py::test_a_repeated_partial_is_acknowledged_and_a_different_one_refused",
        f"{GATEWAY}/test_round.py::test_a_round_is_opened_once",
        f"{GATEWAY}/test_round.py::test_a_second_start_is_refused",
        f"{SERVER}/test_opening.py::test_a_board_in_two_cells_of_a_round_opens_in_one",
    ],
    "a configuration with NaN, infinity or beyond its range": [
        f"{HERE}::test_no_number_of_a_configuration_is_nan_or_infinite",
        f"{SERVER}/test_parts.py::test_configurations_that_do_not_hold_are_refused_in_a_sentence",
        f"{GATEWAY}/test_config.py::test_what_is_wrong_is_said",
    ],
    "a full disk": [
        f"{HERE}::test_a_full_disk_loses_nothing_that_was_acknowledged",
        f"{GATEWAY}/test_watch.py::test_nothing_is_acknowledged_that_a_full_disk_cannot_hold_and_nothing_is_lost",
    ],
    "a clock that jumps": [
        f"{HERE}::test_a_clock_that_jumps_in_a_round_costs_that_round_at_most",
        f"{GATEWAY}/test_watch.py::test_a_large_step_back_is_told",
    ],
    "a broker killed with kill -9": [
        "tests/faults/test_crash_matrix.py::test_the_broker_at_every_kind_of_message",
        "tests/faults/test_killed_broker.py::test_a_broker_killed_in_a_round_loses_and_doubles_nothing",
    ],
}


def test_every_case_has_its_tests():
    root = Path(__file__).parents[2]
    for tests in CASES.values():
        for test in tests:
            path, _, name = test.partition("::")
            assert f"def {name}" in (root / path).read_text(), test


@pytest.fixture
def ward(tmp_path):
    ward = Ward(tmp_path)
    ward.begin()
    ward.until(lambda: ward.settled(1))
    return ward


def play(ward, rounds=1):
    """Whole rounds; whatever was opened is right. Return how many sums were."""
    opened = 0
    for _ in range(rounds):
        number = ward.last_round() + 1
        ward.until(lambda number=number: ward.settled(number))
        opened += ward.check_sums(number)
    return opened


def test_a_number_that_two_boards_have_is_served_where_it_was_enrolled_last(ward):
    """The dock has given number 1 twice. The register knows one board of it; what the other sends is counted."""
    twin = Board(1, "p-new", "gw-2", ward.kme)
    twin.end_key = bytes(32)
    ward.enrol(twin)
    ward.settle(4)
    first = ward.boards.pop(1)
    ward.boards[99] = twin  # the ward's table is by board, not by number
    first.alert()
    twin.boot()
    ward.settle(4)
    for data in first.outbox.values():
        ward.up(first, data)
    ward.settle(2)
    assert ward.site.refused["unknown_board"] >= 1
    assert ward.sites["gw-2"].gateway.boards.get(1).row.patient == "p-new"
    with pytest.raises(RefusedError):
        ward.server.hospital.enrolment.enrol(ward.request(first))  # the old key does not come back


def test_a_clone_gets_no_second_vector_into_a_round(ward):
    """It has every key and counter of board 1, and other values. Where it comes first, nobody can tell it apart."""
    board = ward.boards[1]
    true = board._obey

    def obey_as_two(parsed):
        before = dict(board.sealed)
        true(parsed)
        for data in board.outbox.values():
            ward.up(board, data)
        for round_, stream in board.sealed.keys() - before.keys():
            clone = Board(1, board.patient, board.gateway, ward.kme)
            clone.__dict__.update({**board.__dict__, "outbox": {}, "sealed": {}, "received": []})
            clone.values = lambda *_: [7] * len(board.sealed[round_, stream])  # noqa: B023
            ward.up(board, clone.vector(round_, stream, len(board.sealed[round_, stream])))

    board._obey = obey_as_two
    assert play(ward, 2) >= 3
    assert ward.site.refused["seq"] + ward.site.refused.get("vector", 0) >= 2


def test_a_gateway_from_a_backup_is_refused(ward):
    """Its session numbers are old: the server does not let it in, so its sums cannot be told."""
    site = ward.site
    site.crash()
    shutil.copytree(site.directory, ward.directory / "backup")
    site.start()
    for _ in range(2):
        site.crash()
        site.start()
        ward.advance(2000)
    assert play(ward, 2) == 4
    site.crash()
    shutil.rmtree(site.directory)
    shutil.copytree(ward.directory / "backup", site.directory)
    site.start()
    ward.advance(500)
    assert not site.gateway.link.welcomed
    assert ward.server.hospital.refused["replay"] >= 1


def test_a_server_from_a_backup_sums_nothing_again(ward):
    """It counts rounds from an old number; gateways refuse those, and boards are never asked to use a mask twice."""
    server = ward.server
    server.crash()
    shutil.copytree(server.folder, ward.directory / "backup")
    server.start()
    assert play(ward, 2) == 4
    server.crash()
    shutil.rmtree(server.folder)
    shutil.copytree(ward.directory / "backup", server.folder)
    server.start()
    before = ward.last_round()
    ward.until(lambda: ward.last_round() > before, within_ms=120_000)
    ward.until(lambda: ward.settled(before + 1))
    assert ward.opened(before + 1) == []
    assert any(site.refused.get("round_old", 0) for site in ward.sites.values())


def test_an_update_of_another_model_is_not_in_the_sum(ward):
    stale = ward.boards[1]
    seal = stale.vector
    stale.vector = lambda round_, stream, n: seal(
        round_, stream, n, model=stale.model + 7 if stream == UPDATE else None
    )
    number = ward.last_round() + 1
    play(ward)
    boards = {record.stream: record.boards for record in ward.opened(number)}
    assert 1 not in boards[UPDATE]
    assert len(boards[UPDATE]) == 11
    assert ward.site.refused["model"] >= 1


def test_a_board_that_seals_under_other_terms_voids_its_cell(ward):
    board = ward.boards[1]
    obey = board._obey

    def misread(parsed):
        if parsed.type == frame.ROUND:
            order = payloads.decode_round(parsed.payload)
            streams = [item._replace(bound=2 * item.bound) for item in order.streams]
            parsed = SimpleNamespace(type=frame.ROUND, payload=payloads.encode_round(order._replace(streams=streams)))
        obey(parsed)

    board._obey = misread
    number = ward.last_round() + 1
    play(ward)
    assert ward.opened(number) == []
    assert all(record.reason.startswith("check") for record in ward.server.hospital.ledger.sums(number))


def numbers(model, path=()):
    """(section, name of the field) of every number of a configuration."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from numbers(annotation, (*path, name))
        elif any(kind in (annotation, *getattr(annotation, "__args__", ())) for kind in (int, float)):
            yield model, name


CONFIGURATIONS = (qepa_server.config.ServerConfig, qepa_gateway.config.Config, qepa_qkd.config.LinkConfig)


@pytest.mark.parametrize(("model", "name"), [each for config in CONFIGURATIONS for each in numbers(config)])
def test_no_number_of_a_configuration_is_nan_or_infinite(model, name):
    for value in (math.nan, math.inf, -math.inf, "nan", -1e308):
        with pytest.raises(ValidationError) as refusal:
            model.model_validate({name: value})
        assert name in {error["loc"][0] for error in refusal.value.errors()}, value


@pytest.mark.parametrize("party", ["gateway", "server"])
def test_a_full_disk_loses_nothing_that_was_acknowledged(ward, party):
    """It ends where it cannot write, starts again and again in vain, and goes on when there is room."""
    who = ward.site if party == "gateway" else ward.server
    starts, full = 0, fill(ward, who)
    ward.boards[1].alert()
    for _ in range(20):
        ward.advance(1000)
        if not who.up:
            starts += 1
            who.start()
            if who.up:
                full = fill(ward, who)
    assert starts, "it was never full"
    full()
    ward.until(lambda: {alarm.board for alarm in ward.server.hospital.alarms.newest()} == {1})
    ward.until(lambda: not any(board.outbox for board in ward.boards.values()))
    for number in range(1, ward.last_round() + 1):
        if ward.settled(number):
            ward.check_sums(number)
    assert play(ward, 3) >= 4


def fill(ward, who):
    """Leave no page in the database; return what gives room again."""
    if who is ward.server:
        return fill_server(who)
    who.spool.execute("PRAGMA max_page_count=1")  # SQLite keeps what there is
    return lambda: who.up and who.spool.execute("PRAGMA max_page_count=1000000")


def fill_server(server):
    def limit(pages):
        with server.store.read() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    limit(1)
    run = type(server).run

    def run_until_full(action):
        try:
            run(server, action)
        except SQLAlchemyError:
            server.crash()  # as main does: what could not be stored is not acknowledged

    server.run = run_until_full
    return lambda: server.up and limit(1_000_000)


@pytest.mark.parametrize("jump_ms", [3_600_000, STEP_MS - 1000, -STEP_MS + 1000, -3_600_000])
def test_a_clock_that_jumps_in_a_round_costs_that_round_at_most(ward, jump_ms):
    """Of the server and the gateways; a gateway whose clock went back far starts again, as its daemon does."""
    number = ward.last_round() + 1
    ward.until(lambda: ward.last_round() == number, every_ms=200)
    ward.boards[1].alert()
    ward.now_ms += jump_ms
    if jump_ms < -STEP_MS:
        for site in ward.sites.values():
            site.crash()
            site.start()
    ward.until(lambda: ward.settled(number), within_ms=2 * abs(jump_ms) + 60_000, every_ms=1000)
    ward.check_sums(number)
    assert {alarm.board for alarm in ward.server.hospital.alarms.newest()} == {1}
    ward.until(lambda: all(site.gateway.link.welcomed for site in ward.sites.values()))
    for board in ward.boards.values():
        board.rekey()  # boards are heard again
    ward.settle(4)
    assert play(ward, 3) >= 4
