"""Initial secret of a link without a courier: X25519 and ML-KEM-768 together, both ends signing with ML-DSA-65.

Bob offers, Alice answers, both derive the same bytes; the two messages may travel any way. Sans-IO.

    secret = HKDF-SHA512(X25519 shared | ML-KEM shared, salt = SHA-512(offer | answer), info = link), 4,096 bytes

It holds while either key exchange does, against one who could not forge ML-DSA at the time (FIPS 203, FIPS 204). That
is computational security, and so is that of the first blocks, which the secret authenticates. Pads from these blocks
replace it (`pads`): from the block that the status names on, nothing of it is left. So keys are secret for ever, from
whoever breaks the exchange or the signatures after that block was made; who could break them before, and sat on the
line then, can have stood in the middle from the start. A secret that a courier brings to the dock has no such limit.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qepa_qkd.authentication import SECRET_BYTES
from qepa_qkd.errors import CorruptError, SecurityError

_OFFER: Final = b"qepa link secret offer 1"
_ANSWER: Final = b"qepa link secret answer 1"
_X25519_BYTES: Final = 32
_KEM_SEED_BYTES: Final = 64
_KEM_KEY_BYTES: Final = 1184
_KEM_TEXT_BYTES: Final = 1088


@dataclass(frozen=True, slots=True, repr=False)
class Offer:
    """What Bob keeps until the answer comes, and what he sends: `message`."""

    message: bytes
    x25519: X25519PrivateKey
    kem: MLKEM768PrivateKey

    def private_bytes(self) -> bytes:
        """Everything, for a file that only Bob reads until the answer comes."""
        return self.x25519.private_bytes_raw() + self.kem.private_bytes_raw() + self.message

    @classmethod
    def from_private_bytes(cls, data: bytes) -> "Offer":
        """Take what `private_bytes` returned. Raises CorruptError."""
        end = _X25519_BYTES + _KEM_SEED_BYTES
        try:
            x25519 = X25519PrivateKey.from_private_bytes(data[:_X25519_BYTES])
            return cls(data[end:], x25519, MLKEM768PrivateKey.from_seed_bytes(data[_X25519_BYTES:end]))
        except ValueError:
            raise CorruptError("what was kept of the offer is damaged; make a new one") from None


def make_offer(link: str, signer: MLDSA65PrivateKey) -> Offer:
    """Begin, at Bob's end. An offer is answered once; make a new one for each attempt."""
    x25519, kem = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
    body = x25519.public_key().public_bytes_raw() + kem.public_key().public_bytes_raw()
    return Offer(body + signer.sign(_said(_OFFER, link, body), _OFFER), x25519, kem)


def answer_offer(offer: bytes, link: str, signer: MLDSA65PrivateKey, bob: MLDSA65PublicKey) -> tuple[bytes, bytes]:
    """Return (answer, secret) at Alice's end. Raises SecurityError when Bob did not make `offer` for this link."""
    body = _checked(offer, _X25519_BYTES + _KEM_KEY_BYTES, bob, _OFFER, link)
    try:
        kem = MLKEM768PublicKey.from_public_bytes(body[_X25519_BYTES:])
        own = X25519PrivateKey.generate()
        first = own.exchange(X25519PublicKey.from_public_bytes(body[:_X25519_BYTES]))
    except ValueError:
        raise SecurityError("an offer whose keys are no keys") from None
    second, ciphertext = kem.encapsulate()
    said = own.public_key().public_bytes_raw() + ciphertext
    answer = said + signer.sign(_said(_ANSWER, link, offer + said), _ANSWER)
    return answer, _derive(first + second, offer + answer, link)


def take_answer(offer: Offer, answer: bytes, link: str, alice: MLDSA65PublicKey) -> bytes:
    """Return the secret at Bob's end. Raises SecurityError when Alice did not answer this offer for this link."""
    body = _checked(answer, _X25519_BYTES + _KEM_TEXT_BYTES, alice, _ANSWER, link, offer.message)
    try:
        first = offer.x25519.exchange(X25519PublicKey.from_public_bytes(body[:_X25519_BYTES]))
        second = offer.kem.decapsulate(body[_X25519_BYTES:])
    except ValueError:
        raise SecurityError("an answer whose keys are no keys") from None
    return _derive(first + second, offer.message + answer, link)


def _checked(message: bytes, size: int, peer: MLDSA65PublicKey, what: bytes, link: str, before: bytes = b"") -> bytes:
    body, signature = message[:size], message[size:]
    try:
        peer.verify(signature, _said(what, link, before + body), what)
    except (InvalidSignature, ValueError):
        raise SecurityError("a message that the peer did not sign for this link") from None
    return body


def _said(what: bytes, link: str, body: bytes) -> bytes:
    name = link.encode()
    return what + len(name).to_bytes(2, "little") + name + body


def _derive(shared: bytes, transcript: bytes, link: str) -> bytes:
    salt = hashlib.sha512(transcript).digest()
    return HKDF(SHA512(), length=SECRET_BYTES, salt=salt, info=b"qepa link secret 1 " + link.encode()).derive(shared)
