"""TLS towards the broker: a certificate that must verify under a CA of ours and carry the broker's name, or nothing.

Frames are encrypted and authenticated without it, under keys that a quantum computer does not reach; TLS, which one
does, hides who talks when, and how much, from whoever listens on the network, and keeps the broker's password.

The interpreter stands still during each of the handshake's public-key operations: a few milliseconds on a PC, where it
was measured, 1 to 2 s in all on an ESP32, as published for mbedtls without a cache: choose ECDSA P-256, of which the
longest step is the shortest. A sensor with a FIFO loses nothing below its depth; what is lost shows as a gap.

Dates are checked against a clock that nothing on a board sets: an ESP32 starts in 1970 (MicroPython builds mbedtls with
MBEDTLS_HAVE_TIME_DATE). A broker's and its CA's certificate for boards therefore begin on 1970-01-01, and a board does
not notice their end: replace the CA in its identity instead.
"""

try:
    import tls as _tls
except ImportError:  # an ``ssl`` of C or CPython's
    try:
        import ssl as _tls
    except ImportError:
        _tls = None

from ..errors import BoardError


class BrokerTls:
    """Settings of one broker; the context is made when it is first needed, because its parts take 10 kB and more.

    ca: DER certificates, one of which signed the broker's; name: what the broker's certificate must say; certificate,
    key: DER, of this board, or None.
    """

    def __init__(self, ca, name, certificate=None, key=None):
        self._ca = ca
        self._name = name
        self._own = (certificate, key)
        self._context = None

    def wrap(self, sock):
        """``sock``, connected and non-blocking, as a TLS stream, whose reads and writes make the handshake.

        Raises BoardError("tls") if this interpreter has none, or settings that it does not read.
        """
        if self._context is None:
            self._context = self._make()
        return self._context.wrap_socket(sock, server_hostname=self._name, do_handshake_on_connect=False)

    def _make(self):
        if _tls is None:
            raise BoardError("tls", "this interpreter has no TLS, and nothing goes without it")
        context = _tls.SSLContext(_tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = _tls.CERT_REQUIRED
        try:
            for certificate in self._ca:
                if _tls.__name__ == "tls":
                    context.load_verify_locations(certificate)
                else:
                    context.load_verify_locations(cadata=certificate)
            if self._own[0] is not None:
                context.load_cert_chain(*self._own)
        except (ValueError, OSError):
            raise BoardError("tls", "a certificate or key of the identity cannot be read")  # noqa: B904
        return context
