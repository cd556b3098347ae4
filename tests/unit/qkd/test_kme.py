"""KME: the requests, answers and errors of ETSI GS QKD 014 V1.1.1."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.config import KmeSection, Role, SaePair
from qepa_qkd.kme import Kme, make_app
from qepa_qkd.link_status import LinkStatus
from qepa_qkd.vault import Vault

SECRET = InitialSecret.parse(bytes(range(256)) * 2)
KEY = os.urandom(400)


class Ends:
    """Both KMEs over one block of key, asked by whichever SAE a test names."""

    def __init__(self, directory: Path) -> None:
        self.vaults: dict[str, Vault] = {}
        self.apps: dict[str, Any] = {}
        roles: tuple[Role, ...] = ("alice", "bob")
        for role in roles:
            vault = Vault(directory / f"{role}.db", directory / f"{role}.kek", SECRET, is_alice=role == "alice")
            vault.store_block(9, KEY, 0, "{}", live=True)
            config = KmeSection(
                listen="127.0.0.1:0",
                id=f"kme-{role}",
                peer_id="peer",
                certificate=directory,
                private_key=directory,
                client_ca=directory,
                sae=[SaePair(master="dock", slave="gw-1")],
            )
            self.vaults[role] = vault
            self.apps[role] = make_app(Kme(config, role, vault, LinkStatus(state="running", qber=0.0125), 10_000))

    async def ask(self, role: str, sae: str, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await self.apps[role]({**scope, "state": {"client_name": sae}}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kme") as client:
            response = await client.request(method, f"/api/v1/keys/{path}", json=body)
        return response.status_code, response.json()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    ends = Ends(tmp_path)
    yield ends
    for vault in ends.vaults.values():
        vault.close()


async def test_get_and_post_give_keys_of_the_default_and_of_a_named_size(ends: Ends) -> None:
    code, one = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys")
    assert code == 200
    code, two = await ends.ask("alice", "dock", "GET", "gw-1/enc_keys?number=2&size=128")
    code, three = await ends.ask("alice", "dock", "POST", "gw-1/enc_keys", {"number": 1, "size": 512})
    keys = one["keys"] + two["keys"] + three["keys"]
    assert [8 * len(base64.b64decode(k["key"])) for k in keys] == [256, 128, 128, 512]
    assert b"".join(base64.b64decode(k["key"]) for k in keys) == KEY[:128]
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
        ("bob", "dock", "GET", "dock/dec_keys?key_ID=00000000-0000-4000-8000-000000000000", None, 401),
        ("bob", "dock", "GET", "gw-1/enc_keys", None, 400),
        ("alice", "gw-1", "GET", "dock/dec_keys?key_ID=00000000-0000-4000-8000-000000000000", None, 400),
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
        ("bob", "gw-1", "POST", "dock/dec_keys", None, 400),
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
