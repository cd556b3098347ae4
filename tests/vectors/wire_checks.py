"""Checks of qepa_wire against wire.json, run unchanged on CPython and on MicroPython.

``CHECKS`` maps each section of the file to a function of all vectors that raises AssertionError where they differ
and returns the number of cases it compared.
"""

import struct

from qepa_wire import (
    discrete_gaussian,
    frame,
    keys,
    keystream,
    lighthe,
    lms,
    model,
    one_time,
    one_time_mac,
    payloads,
    quantizer,
)
from qepa_wire.errors import WireError

unhex = bytes.fromhex


def same(what, got, want):
    assert got == want, f"{what}: {got!r} is not {want!r}"


def refusal(call, *args):
    """Return the reason for which ``call`` refuses, "" if it does not."""
    try:
        call(*args)
    except WireError as error:
        return error.reason
    return ""


def known(vectors):
    """Keys of the vectors as bytes."""
    return {name: unhex(value) for name, value in vectors["keys"].items() if isinstance(value, str)}


def check_derive(vectors):
    for case in vectors["derive"]:
        same(case["label"], keys.derive(unhex(case["key"]), case["label"].encode()).hex(), case["out"])
    constants = {getattr(keys, name) for name in dir(keys) if isinstance(getattr(keys, name), bytes)}
    same("labels", sorted(constants), sorted({case["label"].encode() for case in vectors["derive"]}))
    key = known(vectors)
    same("care", keys.care_key(key["end"], key["consent"]), key["care"])
    same("short key", refusal(keys.derive, bytes(31), keys.LINK_MASK), "key")
    return len(vectors["derive"])


def check_ratchet(vectors):
    for case in vectors["ratchet"]:
        same(case["steps"], keys.ratchet(unhex(case["key"]), case["steps"]).hex(), case["out"])
    return len(vectors["ratchet"])


def check_keystream(vectors):
    for case in vectors["keystream"]:
        blocks = unhex(case["blocks"])
        same(case["use"], bytes(keystream.counter_blocks(*case["use"], len(blocks) // 16)), blocks)
        out = unhex(case["out"])
        same(case["use"], keystream.keystream(unhex(case["key"]), *case["use"], len(out)), out)
    return len(vectors["keystream"])


def check_sealed(vectors):
    key = known(vectors)
    check = keys.derive(key["cohort"], keys.COHORT_CHECK)
    masks = [keys.derive(key["link"], keys.LINK_MASK), keys.derive(key["end"], keys.END_MASK)]
    for case in vectors["sealed"]:
        stream, round_, values = case["stream"], case["round"], case["values"]
        values_check = struct.pack("<QQ", *lighthe.check_values(values, check, stream, round_))
        same(case["name"], values_check.hex(), case["checks"])
        same(case["name"], lighthe.seal(values, masks, check, stream, round_).hex(), case["sealed"])
        same(case["name"], lighthe.vector_bytes(len(values)), len(case["sealed"]) // 2)
        for name, mask in zip(("link_mask", "end_mask"), masks):  # noqa: B905  MicroPython's has no strict=
            if name in case:
                size = lighthe.vector_bytes(len(values))
                got = keystream.keystream(mask, keystream.DOMAIN_MASK, stream, 0, round_, size)
                same(case["name"], got.hex(), case[name])
    same("no words", refusal(lighthe.seal, [], masks, check, 1, 1), "length")
    return len(vectors["sealed"])


def _flat(value):
    """Named tuples and bytes as JSON holds them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (tuple, list)):
        return [_flat(item) for item in value]
    return value


def _codecs(vectors, seq):
    """Decoder and encoder of each payload, with the keys that the vectors were made with."""
    key = known(vectors)
    board, care, consent = vectors["keys"]["board"], key["care"], key["consent"]
    alert_key = keys.derive(key["link"], keys.LINK_ALERT)
    wave = (
        lambda data: payloads.decode_wave(care, board, seq, data),
        lambda record: payloads.encode_wave(care, consent, board, seq, record),
    )
    return {
        "hello": (payloads.decode_hello, payloads.encode_hello),
        "vector": (payloads.decode_vector, lambda v: payloads.encode_vector(v.round, v.stream, v.model, v.sealed)),
        "care": (
            lambda data: payloads.decode_care(care, board, seq, data),
            lambda record: payloads.encode_care(care, consent, board, seq, record),
        ),
        "alert": (
            lambda data: payloads.decode_alert(alert_key, seq, data),
            lambda alert: payloads.encode_alert(alert_key, seq, alert),
        ),
        "ack": (payloads.decode_ack, payloads.encode_ack),
        "round": (payloads.decode_round, payloads.encode_round),
        "grant": (
            lambda data: [payloads.decode_grant(care, board, data)],
            lambda grant: payloads.encode_grant(care, board, consent, grant[0]),
        ),
        "revoke": (lambda data: [payloads.decode_revoke(data)], lambda revoke: payloads.encode_revoke(revoke[0])),
        "labels": (
            lambda data: payloads.decode_labels(care, board, seq, data),
            lambda labels: payloads.encode_labels(care, consent, board, seq, labels),
        ),
        "pads": (payloads.decode_pads, payloads.encode_pads),
        "held": (payloads.decode_held, payloads.encode_held),
        "rekey": (payloads.decode_rekey, lambda ages: payloads.encode_rekey(*ages)),
        "wave": wave,
        "wave of three axes": wave,
        "wanted": (payloads.decode_waves_wanted, lambda wanted: payloads.encode_waves_wanted(*wanted)),
    }


def check_payloads(vectors):
    consent = known(vectors)["consent"]
    for name, case in vectors["payloads"].items():
        data = unhex(case["bytes"])
        if name == "model":
            same(name, model.encode_release(*model.decode_release(data)), data)
            continue
        decode, encode = _codecs(vectors, 0x01000000 + case["type"])[name]
        decoded = decode(data)
        same(name, _flat(decoded), case["fields"])
        same(name, encode(decoded), data)
        if name in ("care", "labels", "wave"):
            same("consent of " + name, payloads.care_consent(data), consent)
        elif name == "grant":
            same("consent of grant", payloads.grant_consent(data), consent)
    return len(vectors["payloads"])


def check_frames(vectors):
    key, fixed = known(vectors), vectors["keys"]
    for case in vectors["frames"]:
        data = unhex(case["frame"])
        up = case["type"] in frame.UP_TYPES
        mac_key = keys.derive(key["link"], keys.LINK_MAC_UP if up else keys.LINK_MAC_DOWN)
        other_key = keys.derive(key["link"], keys.LINK_MAC_DOWN if up else keys.LINK_MAC_UP)
        parsed = frame.parse(data, frame.UP_TYPES if up else frame.DOWN_TYPES)
        frame.authenticate(data, mac_key)
        same(case["name"], parsed.payload.hex(), vectors["payloads"][case["name"]]["bytes"])
        same(case["name"], [parsed.board, parsed.epoch, parsed.seq], [fixed["board"], fixed["epoch"], case["seq"]])
        encoded = frame.encode(parsed.type, parsed.board, parsed.epoch, parsed.seq, parsed.payload, mac_key)
        same(case["name"], encoded, data)
        same("reflected", refusal(frame.parse, data, frame.DOWN_TYPES if up else frame.UP_TYPES), "type")
        same("other way's key", refusal(frame.authenticate, data, other_key), "mac")
    return len(vectors["frames"])


def check_refused_frames(vectors):
    mac_key = keys.derive(known(vectors)["link"], keys.LINK_MAC_UP)
    for case in vectors["refused_frames"]:
        data = unhex(case["frame"])
        reason = refusal(frame.parse, data, frame.UP_TYPES) or refusal(frame.authenticate, data, mac_key)
        same("frame", reason, case["reason"])
    return len(vectors["refused_frames"])


def check_refused_payloads(vectors):
    decoders = {
        "hello": payloads.decode_hello,
        "vector": payloads.decode_vector,
        "ack": payloads.decode_ack,
        "round": payloads.decode_round,
        "revoke": payloads.decode_revoke,
        "pads": payloads.decode_pads,
        "held": payloads.decode_held,
        "rekey": payloads.decode_rekey,
        "wanted": payloads.decode_waves_wanted,
        "wave": lambda data: payloads.decode_wave(known(vectors)["care"], vectors["keys"]["board"], 0x01000007, data),
    }
    for case in vectors["refused_payloads"]:
        same(case, refusal(decoders[case["decoder"]], unhex(case["bytes"])), "payload")
    return len(vectors["refused_payloads"])


def check_models(vectors):
    for case in vectors["models"]:
        *descriptor, words = case["fields"]
        want = model.Model(*descriptor, tuple(words))
        blob, release = unhex(case["blob"]), unhex(case["release"])
        same("model", tuple(model.decode_model(blob)), tuple(want))
        same("blob", model.encode_model(want), blob)
        same("release", model.decode_release(release), (blob, b"signature"))
        same("release", model.encode_release(blob, b"signature"), release)
        same("truncated blob", refusal(model.decode_model, blob[:-1]), "model")
        same("another layer", refusal(model.decode_model, blob[:11] + bytes([blob[11] + 1]) + blob[12:]), "model")
        same("unknown kind", refusal(model.decode_model, blob[:3] + b"\3" + blob[4:]), "model")
        same("no signature", refusal(model.decode_release, release[: 2 + len(blob)]), "model")
    return len(vectors["models"])


def check_quantizer(vectors):
    n = 0
    for case in vectors["quantizer"]:
        rounds = quantizer.Quantizer(case["bound"], case["q_max"], case["n_max"])
        for value, word in case["pairs"]:
            same((case["bound"], case["q_max"], value), rounds.quantize(value), word)
            n += 1
    same("overflow", refusal(quantizer.Quantizer, 1, 1 << 20, 1 << 11), "quantizer")
    return n


def check_tails(vectors):
    for case in vectors["tails"]:
        same(case, discrete_gaussian.tail(case["noise_q8"]), case["tail"])
        if case["tail"] > 1:
            free = (1 << 31) - 1 - case["tail"]
            quantizer.Quantizer(1, free, 1, noise_q8=case["noise_q8"])
            refused = refusal(quantizer.Quantizer, 1, free + 1, 1, quantizer.NEAREST, None, case["noise_q8"])
            same(case, refused, "quantizer")
    return len(vectors["tails"])


def check_terms(vectors):
    check_key = keys.derive(known(vectors)["cohort"], keys.COHORT_CHECK)
    for case in vectors["terms"]:
        order = payloads.StreamOrder(*case["stream"])
        same(case, payloads.terms_key(check_key, case["model"], case["n_max"], order).hex(), case["out"])
    return len(vectors["terms"])


def check_poly1305(vectors):
    for case in vectors["poly1305"]:
        key, message = unhex(case["key"]), unhex(case["message"])
        same(case, one_time_mac.poly1305_integers(key, message).hex(), case["tag"])
        same(case, one_time_mac.one_time_tag(key, message).hex(), case["tag"])
        one_time_mac.check_one_time_tag(key, message, unhex(case["tag"]))
        other = unhex(case["tag"][:-2] + ("00" if case["tag"][-2:] != "00" else "01"))
        same(case, refusal(one_time_mac.check_one_time_tag, key, message, other), "mac")
    same("short key", refusal(one_time_mac.one_time_tag, bytes(31), b""), "key")
    return len(vectors["poly1305"])


def check_one_time(vectors):
    key, fixed = known(vectors), vectors["keys"]
    mac_key = keys.derive(key["link"], keys.LINK_MAC_UP)
    check = keys.derive(key["cohort"], keys.COHORT_CHECK)
    for case in vectors["one_time"]:
        data, block, key_id, offset = unhex(case["frame"]), unhex(case["block"]), unhex(case["key_id"]), case["offset"]
        parsed = frame.parse(data, frame.UP_TYPES)
        frame.authenticate(data, mac_key)
        found, at, n_bytes = one_time.reference(parsed)
        same("reference", (found, at), (key_id, offset))
        used = block[offset : offset + n_bytes]
        opened = one_time.open_one_time(parsed, used)
        taken = one_time.split(key_id, offset, used)
        if "alert" in case:
            alert = payloads.Alert(*case["alert"])
            same("alert", one_time.unmask_alert(opened), alert)
            body = one_time.mask_alert(taken.pad, alert)
        else:
            vector = payloads.decode_vector(opened.payload)
            end = keys.derive(key["end"], keys.END_MASK)
            sealed = lighthe.seal(case["values"], [end], check, vector.stream, vector.round, [taken.pad])
            same("sealed", vector.sealed, sealed)
            body = payloads.encode_vector(vector.round, vector.stream, vector.model, sealed)
        args = (case["type"], fixed["board"], fixed["epoch"], case["seq"], body)
        same("frame", one_time.encode_one_time(*args, taken, mac_key), data)
        other = bytes([used[0] ^ 1]) + used[1:]
        same("other block", refusal(one_time.open_one_time, parsed, other), "mac")
    return len(vectors["one_time"])


def check_stochastic(vectors):
    for case in vectors["stochastic"]:
        draws = quantizer.Quantizer(
            case["bound"], case["q_max"], 1, quantizer.STOCHASTIC, lambda _, case=case: case["bits"]
        )
        same(case, draws.quantize(case["x"]), case["word"])
    return len(vectors["stochastic"])


def check_signatures(vectors):
    for case in vectors["signatures"]:
        public, message, signature = (unhex(case[name]) for name in ("public", "message", "signature"))
        lms.verify(public, message, signature)
        same("longer", refusal(lms.verify, public, message, signature + b"\0"), "signature")
        same("shorter", refusal(lms.verify, public, message, signature[:-1]), "signature")
        same("other message", refusal(lms.verify, public, message + b"\0", signature), "signature")
        flipped = signature[:-1] + bytes([signature[-1] ^ 1])
        same("flipped", refusal(lms.verify, public, message, flipped), "signature")
    return len(vectors["signatures"])


CHECKS = {
    "derive": check_derive,
    "ratchet": check_ratchet,
    "keystream": check_keystream,
    "sealed": check_sealed,
    "payloads": check_payloads,
    "frames": check_frames,
    "refused_frames": check_refused_frames,
    "refused_payloads": check_refused_payloads,
    "models": check_models,
    "quantizer": check_quantizer,
    "tails": check_tails,
    "terms": check_terms,
    "poly1305": check_poly1305,
    "one_time": check_one_time,
    "stochastic": check_stochastic,
    "signatures": check_signatures,
}
