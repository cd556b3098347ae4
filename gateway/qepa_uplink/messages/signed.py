"""What desks and docks sign: one class, so that all of it is verified in one way, and only then parsed."""

from typing import Self

from pydantic import Field

from ..identity import Certificate, Identity, Role, Subject, verify_certificate, verify_signature
from .fields import Message


class SignedBody(Message):
    """The exact bytes of a message, with the certificate and signature of who says it."""

    body: bytes = Field(max_length=4096)
    certificate: Certificate
    signature: bytes = Field(max_length=4096)

    @classmethod
    def of(cls, message: Message, signer: Identity, context: bytes) -> Self:
        """``message`` signed under ``context``."""
        body = message.model_dump_json().encode()
        return cls(body=body, certificate=signer.certificate, signature=signer.sign(body, context))

    def verify(self, root_key: bytes, *, role: Role, context: bytes, now_s: float) -> Subject:
        """Return who signed ``body``; raise UplinkError (certificate, signature) if nobody of this role did."""
        signer = verify_certificate(self.certificate, root_key, role=role, now_s=now_s)
        verify_signature(signer.sign_key, self.signature, self.body, context)
        return signer
