"""KME: the requests, answers and errors of ETSI GS QKD 014 V1.1.1."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kme_ends import Ends

from qepa_qkd.config import SaePair

NO_KEY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    ends = Ends(tmp_path)
    yield ends
    ends.close()


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ends]:
    """A master with three slaves and one with a single slave."""
    pairs = [SaePair(master="dock", slave=f"gw-{i}") for i in (3, 1, 2)] + [SaePair(master="desk", slave="gw-1")]
    ends = Ends(tmp_path, sae=pairs)
    yield ends
    ends.close()


async def test_get_and_post_give_keys_of_the_default_and_of_a_named_size(ends: Ends) -> None:
    code, one = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys")
    assert code == 200
    code, two = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys?number=2&size=128")
    code, three = await ends.ask("alice", "dock", "POST", "gw-1/enc_keys", {"number": 1, "size": 512})
    keys = one["keys"] + two["keys"] + three["keys"]
    assert [8 * len(base64.b64decode(k["key"])) for k in keys] == [256, 128, 128, 512]
    assert b"".join(base64.b64decode(k["key"]) for k in keys) == ends.key[:128]
    code, got = await ends.ask("bob", "gw-1", "GET", f"dock/dec_keys?key_ID={keys[0]['key_ID']}")
    assert (code, got["keys"]) == (200, [keys[0]])
    body = {"key_IDs": [{"key_ID": k["key_ID"]} for k in keys[1:]]}
    code, got = await ends.ask("bob", "gw-1", "POST", "dock/dec_keys", body)
    assert (code, got["keys"]) == (200, keys[1:])
    code, error = await ends.ask("bob", "gw-1", "POST", "dock/dec_keys", body)
    assert (code, error["message"]) == (400, "one or more keys specified are not found on KME")


async def test_status_has_every_field_of_the_standard(ends: Ends) -> None:
    for role, sae, other in (("alice", "dock", "gw-1"), ("bob", "gw-1", "dock")):
        code, status = await ends.ask(role, sae, "GET", f"{other}/status")
        assert code == 200
        extension = status.pop("status_extension")
        assert status == {
            "source_KME_ID": f"kme-{role}",
            "target_KME_ID": "peer",
            "master_SAE_ID": "dock",
            "slave_SAE_ID": "gw-1",
            "key_size": 256,
            "stored_key_count": 12,
            "max_key_count": 39,
            "max_key_per_request": 128,
            "max_key_size": 8192,
            "min_key_size": 64,
            "max_SAE_ID_count": 0,
        }
        assert (extension["link_state"], extension["qber"], extension["stock_bits"]) == ("running", 0.0125, 3200)


@pytest.mark.parametrize(
    ("role", "sae", "method", "path", "body", "code"),
    [
        ("alice", "stranger", "GET", "gw-1/enc_keys", None, 401),
        ("alice", "", "GET", "gw-1/enc_keys", None, 401),
        ("alice", "gw-1", "GET", "dock/enc_keys", None, 401),
        ("alice", "dock", "GET", "gw-2/enc_keys", None, 401),
        ("alice", "stranger", "GET", "gw-1/status", None, 401),
        ("bob", "dock", "GET", f"dock/dec_keys?key_ID={NO_KEY}", None, 401),
        ("bob", "dock", "GET", "gw-1/enc_keys", None, 400),
        ("alice", "gw-1", "GET", f"dock/dec_keys?key_ID={NO_KEY}", None, 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?size=100", None, 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?size=56", None, 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?size=8200", None, 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?number=129", None, 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?number=0", None, 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?number=many", None, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"number": [1]}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"size": 0}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"additional_slave_SAE_IDs": ["gw-2"]}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"extension_mandatory": [{"route": "direct"}]}, 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?number=13", None, 503),
        ("bob", "gw-1", "GET", "dock/dec_keys", None, 400),
        ("bob", "gw-1", "GET", "dock/dec_keys?key_ID=nonsense", None, 400),
        ("bob", "gw-1", "POST", "dock/dec_keys", {"key_IDs": []}, 400),
        ("bob", "gw-1", "GET", f"dock/dec_keys?key_ID={NO_KEY}&key_ID={NO_KEY}", None, 400),
        ("bob", "gw-1", "GET", f"dock/dec_keys?key_ID={NO_KEY}", None, 400),
        ("bob", "gw-1", "POST", "dock/dec_keys", None, 400),
        ("bob", "gw-1", "POST", "dock/dec_keys", {"key_IDs": NO_KEY}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"number": "1"}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"number": True}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"size": 256.0}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", {"extension_mandatory": ["route"]}, 400),
        ("alice", "dock", "POST", "gw-1/enc_keys", [], 400),
        ("alice", "dock", "GET", "gw-1/enc_keys?size=0", None, 400),
        ("alice", "dock", "DELETE", "gw-1/enc_keys", None, 405),
        ("alice", "dock", "GET", "gw-1/keys", None, 404),
    ],
)
async def test_refusals_have_the_error_format_and_take_nothing(
    ends: Ends, role: str, sae: str, method: str, path: str, body: Any, code: int
) -> None:
    got, document = await ends.ask(role, sae, method, path, body)
    assert got == code
    assert document["message"]
    assert isinstance(document["details"], list)
    assert "keys" not in document
    assert ends.vaults[role].keys.stock_bits() == 3200


async def test_optional_extensions_are_ignored(ends: Ends) -> None:
    code, _ = await ends.ask("alice", "dock", "POST", "gw-1/enc_keys", {"extension_optional": [{"x": 1}]})
    assert code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"size": 100}, "size shall be a multiple of 8"),
        ({"extension_mandatory": [{"route": 1}]}, "not all extension_mandatory parameters are supported"),
        ({"number": 0}, "bad request format"),
        ({"number": 129}, "bad request format"),
    ],
)
async def test_messages_are_those_of_the_standard(ends: Ends, body: Any, message: str) -> None:
    code, error = await ends.ask("alice", "dock", "POST", "gw-1/enc_keys", body)
    assert (code, error["message"]) == (400, message)


async def test_what_is_left_out_may_also_be_null(ends: Ends) -> None:
    names = ("number", "size", "additional_slave_SAE_IDs", "extension_mandatory", "extension_optional")
    code, got = await ends.ask("alice", "dock", "POST", "gw-1/enc_keys", dict.fromkeys(names))
    assert code == 200
    assert [len(base64.b64decode(key["key"])) for key in got["keys"]] == [32]


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"\xff", b"[" * 100_000, b'{"number": NaN}', b"{" + b" " * 200_000 + b"}"],
    ids=["cut", "empty", "no-text", "deep", "nan", "large"],
)
async def test_bodies_that_are_no_request_are_refused(ends: Ends, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for role, sae, path in (("alice", "dock", "gw-1/enc_keys"), ("bob", "gw-1", "dock/dec_keys")):
        code, error = await ends.ask(role, sae, "POST", path, headers=headers, content=content)
        assert (code, sorted(error)) == (400, ["details", "message"])
        assert ends.vaults[role].keys.stock_bits() == 3200


async def test_every_slave_of_a_shared_key_redeems_it_once(ward: Ends) -> None:
    body = {"number": 2, "additional_slave_SAE_IDs": ["gw-3", "gw-2", "gw-2"]}
    code, given = await ward.ask("alice", "dock", "POST", "gw-1/enc_keys", body)
    assert code == 200
    ids = {"key_IDs": [{"key_ID": key["key_ID"]} for key in given["keys"]]}
    for slave in ("gw-2", "gw-1", "gw-3"):
        assert await ward.ask("bob", slave, "POST", "dock/dec_keys", ids) == (200, given)
        code, error = await ward.ask("bob", slave, "POST", "dock/dec_keys", ids)
        assert (code, error["message"]) == (400, "one or more keys specified are not found on KME")
    raw = b"".join(path.read_bytes() for path in ward.directory.glob("bob.db*"))
    assert base64.b64decode(given["keys"][0]["key"]) not in raw


async def test_a_shared_key_that_a_slave_does_not_fetch_in_time_is_destroyed(ward: Ends) -> None:
    _, given = await ward.ask("alice", "dock", "POST", "gw-1/enc_keys", {"additional_slave_SAE_IDs": ["gw-2"]})
    path = f"dock/dec_keys?key_ID={given['keys'][0]['key_ID']}"
    assert (await ward.ask("bob", "gw-1", "GET", path))[0] == 200
    ward.now_s += 7 * 86400 + 1
    ward.kmes["bob"].expire()
    assert (await ward.ask("bob", "gw-2", "GET", path))[0] == 400


async def test_a_key_is_for_the_slaves_it_was_taken_for(ward: Ends) -> None:
    _, given = await ward.ask("alice", "dock", "GET", "gw-1/enc_keys")
    path = f"dec_keys?key_ID={given['keys'][0]['key_ID']}"
    assert (await ward.ask("bob", "gw-2", "GET", f"dock/{path}"))[0] == 401
    code, error = await ward.ask("bob", "gw-1", "GET", f"desk/{path}")
    assert (code, error["message"]) == (400, "one or more keys specified are not found on KME")
    changed = UUID(int=UUID(given["keys"][0]["key_ID"]).int ^ 0b11 << 45)  # gw-2 instead of gw-1
    assert (await ward.ask("bob", "gw-2", "GET", f"dock/dec_keys?key_ID={changed}"))[0] == 400
    assert (await ward.ask("bob", "gw-1", "GET", f"dock/{path}")) == (200, given)


async def test_additional_slaves_are_checked_like_the_first(ward: Ends) -> None:
    for sae, additional, code in (("dock", ["gw-9"], 401), ("desk", ["gw-2"], 400), ("dock", ["gw-2", "x", "y"], 400)):
        body = {"additional_slave_SAE_IDs": additional}
        got, error = await ward.ask("alice", sae, "POST", "gw-1/enc_keys", body)
        assert (got, "message" in error) == (code, True)
    assert ward.vaults["alice"].keys.stock_bits() == 3200
    assert (await ward.ask("alice", "dock", "GET", "gw-1/status"))[1]["max_SAE_ID_count"] == 2
    assert (await ward.ask("bob", "gw-1", "GET", "desk/status"))[1]["max_SAE_ID_count"] == 0


async def test_names_in_paths_are_percent_encoded(ends: Ends) -> None:
    assert (await ends.ask("alice", "dock", "GET", f"{quote('gw')}%2D1/enc_keys"))[0] == 200
    assert (await ends.ask("alice", "dock", "GET", f"{quote('../gw-1', safe='')}/enc_keys"))[0] in (401, 404)
