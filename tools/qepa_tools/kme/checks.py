"""The checks, in the order in which they run; each cites a clause of ETSI GS QKD 014 V1.1.1.

Level "shall": the specification says so. Level "should": exactly-once and all-or-none delivery, which it leaves open
and this project relies on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote
from uuid import UUID, uuid4

from .target import Failed, Sae, Skipped, Target, Tls, expect_error, expect_status, keys_of

Level = Literal["shall", "should"]
Run = Callable[[Target], None]
STRANGER: Final = "no-such-sae"
SIZE_MESSAGE: Final = "size shall be a multiple of 8"
MANDATORY_MESSAGE: Final = "not all extension_mandatory parameters are supported"
NOT_FOUND_MESSAGE: Final = "one or more keys specified are not found on kme"
UNKNOWN_EXTENSION: Final = {"qepa_conformance_no_such_extension": True}
_STATUS_FIELDS: Final[dict[str, type]] = {
    "source_KME_ID": str,
    "target_KME_ID": str,
    "master_SAE_ID": str,
    "slave_SAE_ID": str,
    "key_size": int,
    "stored_key_count": int,
    "max_key_count": int,
    "max_key_per_request": int,
    "max_key_size": int,
    "min_key_size": int,
    "max_SAE_ID_count": int,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `run` returns, or raises Failed or Skipped."""

    number: int
    clause: str
    level: Level
    run: Run

    @property
    def name(self) -> str:
        """Short name."""
        return self.run.__name__

    @property
    def title(self) -> str:
        """What must hold."""
        return (self.run.__doc__ or "").rstrip(".")


CHECKS: Final[list[Check]] = []


def _check(clause: str, level: Level = "shall") -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        CHECKS.append(Check(len(CHECKS) + 1, clause, level, run))
        return run

    return add


@_check("4")
def tls_old_version(target: Target) -> None:
    """TLS 1.1 and older are refused."""
    _refused(_tls(target).accepts_old_version())


@_check("4")
def tls_anonymous(target: Target) -> None:
    """A client without a certificate is refused."""
    _refused(_tls(target).accepts_anonymous())


@_check("4")
def tls_stranger(target: Target) -> None:
    """A client certificate of an unknown authority is refused."""
    _refused(_tls(target).accepts_stranger())


@_check("5.1, 6.1")
def status_fields(target: Target) -> None:
    """Status has every field, of its type."""
    document = target.status()
    for name, kind in _STATUS_FIELDS.items():
        if not isinstance(document.get(name), kind) or isinstance(document[name], bool):
            raise Failed(f"{name} is missing or no {'string' if kind is str else 'integer'}")


@_check("6.1")
def status_names(target: Target) -> None:
    """Status names the two SAEs asked about."""
    document = target.status()
    if (document.get("master_SAE_ID"), document.get("slave_SAE_ID")) != (target.master, target.slave):
        raise Failed("master_SAE_ID or slave_SAE_ID is of another pair")


@_check("6.1")
def status_figures(target: Target) -> None:
    """The figures of status fit together."""
    s = target.status()
    if not 0 < s["min_key_size"] <= s["key_size"] <= s["max_key_size"]:
        raise Failed("key_size is not between min_key_size and max_key_size")
    if not 0 <= s["stored_key_count"] <= s["max_key_count"] or s["max_key_per_request"] < 1:
        raise Failed("stored_key_count, max_key_count or max_key_per_request makes no sense")
    if s["max_SAE_ID_count"] < 0:
        raise Failed("max_SAE_ID_count is negative")


@_check("5.1")
def status_stranger(target: Target) -> None:
    """Status of an SAE the client has no link with is refused."""
    expect_error(target.get(f"{STRANGER}/status"), 400, 401)


@_check("5.2, 6.3")
def get_default(target: Target) -> None:
    """GET enc_keys gives one key of the default size."""
    keys_of(target.get(f"{_slave(target)}/enc_keys"), 1, _int(target, "key_size"))


@_check("5.2")
def get_number_and_size(target: Target) -> None:
    """GET enc_keys takes number and size."""
    size = _other_size(target)
    keys_of(target.get(f"{_slave(target)}/enc_keys?number=2&size={size}"), 2, size)


@_check("5.2, 6.2")
def post_default(target: Target) -> None:
    """POST enc_keys without parameters gives one key of the default size."""
    keys_of(target.take({}), 1, _int(target, "key_size"))


@_check("5.2, 6.2")
def post_number_and_size(target: Target) -> None:
    """POST enc_keys takes number and size."""
    size = _other_size(target)
    keys_of(target.take({"number": 3, "size": size}), 3, size)


@_check("5.2")
def keys_differ(target: Target) -> None:
    """Keys and identifiers differ, within a request and between two."""
    keys = keys_of(target.take({"number": 3})) + keys_of(target.take({"number": 3}))
    if len({key.key_id for key in keys}) != 6 or len({key.value for key in keys}) != 6:
        raise Failed("a key or an identifier came twice")


@_check("6.2")
def size_multiple(target: Target) -> None:
    """A size that is no multiple of 8 is refused with the message prescribed."""
    expect_error(target.take({"size": _int(target, "key_size") + 1}), 400, message=SIZE_MESSAGE)


@_check("6.1, 6.2")
def size_large(target: Target) -> None:
    """A size over max_key_size is refused."""
    expect_error(target.take({"size": _int(target, "max_key_size") + 8}), 400)


@_check("6.1, 6.2")
def size_small(target: Target) -> None:
    """A size under min_key_size is refused."""
    smallest = _int(target, "min_key_size")
    expect_error(target.take({"size": smallest - 8 if smallest > 8 else 0}), 400)


@_check("6.1, 6.2")
def number_large(target: Target) -> None:
    """More than max_key_per_request keys are refused."""
    expect_error(target.take({"number": _int(target, "max_key_per_request") + 1}), 400)


@_check("5.2, 6.2")
def number_small(target: Target) -> None:
    """A number under 1 is refused."""
    for number in (0, -1):
        expect_error(target.take({"number": number}), 400)


@_check("5.2")
def get_no_number(target: Target) -> None:
    """A GET parameter that is no number is refused."""
    for query in ("number=many", "size=large"):
        expect_error(target.get(f"{_slave(target)}/enc_keys?{query}"), 400)


@_check("5.2, 6.2")
def body_no_object(target: Target) -> None:
    """A body that is no JSON object is refused."""
    for content in (b"{", b"[]", b'"text"', b"\xff\xfe"):
        expect_error(target.enc.call("POST", f"{_slave(target)}/enc_keys", content), 400)


@_check("6.2")
def wrong_type(target: Target) -> None:
    """A parameter of the wrong type is refused."""
    requests: list[object] = [
        {"number": [1]},
        {"size": {}},
        {"additional_slave_SAE_IDs": 7},
        {"extension_mandatory": "x"},
    ]
    for request in requests:
        expect_error(target.take(request), 400)


@_check("6.2")
def extension_mandatory(target: Target) -> None:
    """An unknown mandatory extension is refused with the message prescribed."""
    expect_error(target.take({"extension_mandatory": [UNKNOWN_EXTENSION]}), 400, message=MANDATORY_MESSAGE)


@_check("6.2")
def extension_optional(target: Target) -> None:
    """An unknown optional extension is ignored."""
    keys_of(target.take({"extension_optional": [UNKNOWN_EXTENSION]}), 1)


@_check("6.1, 6.2")
def too_many_slaves(target: Target) -> None:
    """More than max_SAE_ID_count additional slaves are refused."""
    names = [f"{STRANGER}-{i}" for i in range(_int(target, "max_SAE_ID_count") + 1)]
    expect_error(target.take({"additional_slave_SAE_IDs": names}), 400, 401)


@_check("5.2")
def enc_stranger(target: Target) -> None:
    """Keys for an SAE that the client may not share with are refused."""
    expect_error(target.take({}, STRANGER), 400, 401)


@_check("5.2")
def too_little_key(target: Target) -> None:
    """More key than there is gets 503, and none of it."""
    s = target.status()
    number, size = s["max_key_per_request"], s["max_key_size"] // 8 * 8
    if number * size <= s["stored_key_count"] * s["key_size"]:
        raise Skipped("the store holds more than one request can ask for")
    expect_error(target.take({"number": number, "size": size}), 503)
    if target.status()["stored_key_count"] < s["stored_key_count"]:
        raise Failed("the refused request used key up")


@_check("5")
def other_methods(target: Target) -> None:
    """Other methods than GET and POST are refused."""
    for method in ("PUT", "DELETE"):
        answer = target.enc.call(method, f"{_slave(target)}/enc_keys", b"{}")
        if answer.status < 400 or "keys" in (answer.document or {}):
            raise Failed(f"{method} answers {answer.status}")


@_check("5.3")
def dec_get(target: Target) -> None:
    """GET dec_keys gives the slave the master's key."""
    (key,) = keys_of(target.take({}), 1)
    answer = _slave_sae(target).call("GET", f"{quote(target.master, safe='')}/dec_keys?key_ID={key.key_id}")
    if keys_of(answer, 1) != [key]:
        raise Failed("the slave gets another key than the master")


@_check("5.3, 6.4")
def dec_post(target: Target) -> None:
    """POST dec_keys gives the slave all keys asked for."""
    _slave_sae(target)
    keys = keys_of(target.take({"number": 3, "size": _other_size(target)}), 3)
    got = keys_of(target.redeem([key.key_id for key in reversed(keys)]), 3)
    if {(key.key_id, key.value) for key in got} != {(key.key_id, key.value) for key in keys}:
        raise Failed("the slave gets other keys than the master")


@_check("5.3")
def dec_unknown(target: Target) -> None:
    """An unknown identifier is refused with the message prescribed."""
    expect_error(target.redeem([str(uuid4())]), 400, message=NOT_FOUND_MESSAGE)


@_check("6.4")
def dec_no_uuid(target: Target) -> None:
    """An identifier that is no UUID is refused."""
    for key_id in ("nonsense", ""):
        expect_error(target.redeem([key_id]), 400)


@_check("6.4")
def dec_empty(target: Target) -> None:
    """A request without identifiers is refused."""
    master = quote(target.master, safe="")
    for content in (b"{}", b'{"key_IDs": []}', b"{"):
        expect_error(_slave_sae(target).call("POST", f"{master}/dec_keys", content), 400)
    expect_error(_slave_sae(target).call("GET", f"{master}/dec_keys"), 400)


@_check("5.3", "should")
def dec_once(target: Target) -> None:
    """A key is delivered to its slave once."""
    _slave_sae(target)
    (key,) = keys_of(target.take({}), 1)
    keys_of(target.redeem([key.key_id]), 1)
    expect_error(target.redeem([key.key_id]), 400, message=NOT_FOUND_MESSAGE)


@_check("5.3", "should")
def dec_all_or_none(target: Target) -> None:
    """A request with one unknown identifier delivers and uses up nothing."""
    _slave_sae(target)
    (key,) = keys_of(target.take({}), 1)
    expect_error(target.redeem([key.key_id, str(uuid4())]), 400, message=NOT_FOUND_MESSAGE)
    if keys_of(target.redeem([key.key_id]), 1) != [key]:
        raise Failed("the slave gets another key than the master")


@_check("5.3", "should")
def dec_changed(target: Target) -> None:
    """A changed identifier delivers nothing."""
    _slave_sae(target)
    (key,) = keys_of(target.take({}), 1)
    for bit in (0, 61, 80, 127):
        expect_error(target.redeem([str(UUID(int=UUID(key.key_id).int ^ 1 << bit))]), 400)


@_check("5.3")
def dec_other(target: Target) -> None:
    """Another SAE than the slave gets 401."""
    if target.dec_as_other is None:
        raise Skipped("needs the master's certificate at the slave's KME")
    (key,) = keys_of(target.take({}), 1)
    expect_status(target.redeem([key.key_id], target.dec_as_other), 401)


@_check("5.2, 5.3, 6.2")
def multicast(target: Target) -> None:
    """Every additional slave gets the same key."""
    third, third_dec = _third(target)
    (key,) = keys_of(target.take({"additional_slave_SAE_IDs": [third]}), 1)
    for sae in (_slave_sae(target), third_dec):
        if keys_of(target.redeem([key.key_id], sae), 1) != [key]:
            raise Failed("a slave gets another key than the master")


@_check("5.3")
def dec_not_for(target: Target) -> None:
    """A slave the key was not taken for gets 401."""
    _, third_dec = _third(target)
    (key,) = keys_of(target.take({}), 1)
    expect_status(target.redeem([key.key_id], third_dec), 401)


def run_check(check: Check, target: Target) -> tuple[str, str]:
    """Return ("passed" | "failed" | "skipped", why)."""
    try:
        check.run(target)
    except Failed as finding:
        return "failed", str(finding)
    except Skipped as reason:
        return "skipped", str(reason)
    except (KeyError, TypeError) as error:
        return "failed", f"an answer lacks {error} or has it in another type"
    return "passed", ""


def _tls(target: Target) -> Tls:
    if target.tls is None:
        raise Skipped("needs a KME behind TLS")
    return target.tls


def _refused(finding: str | None) -> None:
    if finding:
        raise Failed(finding)


def _slave(target: Target) -> str:
    return quote(target.slave, safe="")


def _slave_sae(target: Target) -> Sae:
    if target.dec is None:
        raise Skipped("needs the slave's certificate")
    return target.dec


def _third(target: Target) -> tuple[str, Sae]:
    if target.third is None or target.third_dec is None or target.dec is None:
        raise Skipped("needs the certificates of two slaves")
    return target.third, target.third_dec


def _int(target: Target, name: str) -> int:
    value: Any = target.status().get(name)
    if not isinstance(value, int):
        raise Failed(f"status has no {name}")
    return value


def _other_size(target: Target) -> int:
    """A size other than the default one, where the KME allows more than one."""
    s = target.status()
    smallest = -(-s["min_key_size"] // 8) * 8
    return int(smallest if smallest != s["key_size"] else s["max_key_size"] // 8 * 8)
