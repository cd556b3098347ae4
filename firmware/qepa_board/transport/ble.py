"""The Bluetooth LE peripheral's protocol: one central at a time, nothing before it is encrypted. Sans-IO.

Events are those of MicroPython's ``bluetooth`` module and OPENED, with which a central says that it listens: the module
does not tell who has subscribed. PROTOCOL.md, section 14.
"""

CONNECT = 1
DISCONNECT = 2
MTU = 21
ENCRYPTION = 28
OPENED = 256
_SECURE = 257
_WEAK = 258
_LATE = 259

ADVERTISE = 1
PAIR = 2
DROP = 3

IDLE = 0
ADVERTISING = 1
CONNECTED = 2
SECURED = 3
READY = 4
CLOSING = 5

SETUP_MS = 30000  # from connection to OPENED: a central that only sits there keeps others out
CLOSE_MS = 5000
MIN_KEY_BYTES = 16

# (state, event): (state, action). What is missing changes nothing.
_TABLE = {
    (ADVERTISING, CONNECT): (CONNECTED, PAIR),
    (ADVERTISING, DISCONNECT): (ADVERTISING, ADVERTISE),  # a connection that did not come to stand
    (CONNECTED, _SECURE): (SECURED, None),
    (CONNECTED, _WEAK): (CLOSING, DROP),
    (CONNECTED, OPENED): (CLOSING, DROP),
    (CONNECTED, _LATE): (CLOSING, DROP),
    (CONNECTED, DISCONNECT): (ADVERTISING, ADVERTISE),
    (SECURED, OPENED): (READY, None),
    (SECURED, _WEAK): (CLOSING, DROP),
    (SECURED, _LATE): (CLOSING, DROP),
    (SECURED, DISCONNECT): (ADVERTISING, ADVERTISE),
    (READY, _WEAK): (CLOSING, DROP),
    (READY, DISCONNECT): (ADVERTISING, ADVERTISE),
    (CLOSING, _LATE): (CLOSING, DROP),
    (CLOSING, DISCONNECT): (ADVERTISING, ADVERTISE),
}


class Peripheral:
    """One radio's worth of protocol: events in, actions (ADVERTISE, PAIR, DROP) with their connection out.

    ``conn``, ``mtu`` and ``authenticated`` describe the connection there is.
    """

    def __init__(self, must_authenticate):
        self._must_authenticate = must_authenticate
        self._deadline_ms = None
        self.state = IDLE
        self._forget()

    def _forget(self):
        self.conn = None
        self.mtu = 23
        self.authenticated = False

    def start(self):
        """The radio is on; returns (ADVERTISE, None)."""
        self.state = ADVERTISING
        return ADVERTISE, None

    def event(self, event, conn, now_ms, *details):
        """Take an event of connection ``conn``; returns (action or None, connection).

        details: the MTU of MTU; encrypted, authenticated, bonded, key size of ENCRYPTION.
        """
        if event == CONNECT:
            if self.state != ADVERTISING:
                return DROP, conn
            self.conn = conn
            self._deadline_ms = now_ms + SETUP_MS
        elif self.conn is not None and conn != self.conn:
            return None, conn  # of a connection that was refused
        if event == MTU:
            self.mtu = details[0]
        elif event == ENCRYPTION:
            encrypted, authenticated, _, key_bytes = details
            self.authenticated = bool(encrypted and authenticated)
            strong = encrypted and key_bytes >= MIN_KEY_BYTES
            event = _SECURE if strong and (authenticated or not self._must_authenticate) else _WEAK
        return self._step(event, now_ms)

    def poll(self, now_ms):
        """What time asks for: (action or None, connection)."""
        if self._deadline_ms is not None and now_ms >= self._deadline_ms:
            return self._step(_LATE, now_ms)
        return None, None

    def _step(self, event, now_ms):
        conn = self.conn
        state, action = _TABLE.get((self.state, event), (self.state, None))
        self.state = state
        if action == DROP:
            self._deadline_ms = now_ms + CLOSE_MS
        elif action == ADVERTISE:
            self._forget()
        if state in (READY, ADVERTISING):
            self._deadline_ms = None
        return action, conn
