# mypy: ignore-errors
# ruff: noqa: ARG002, D101, RUF005, RUF006, UP031  signatures and names are MicroPython's; the loop holds its tasks
# This is MicroPython, with modules that CPython has not.
"""`bluetooth` of an ESP32, peripheral role, over a TCP connection to qepa_tools.air.radio.

Events come between two steps of asyncio tasks; on an ESP32 they come between two bytecodes. Like NimBLE: a value longer
than its buffer (20 bytes unless set) is cut, notifications beyond what the stack can hold raise OSError(ENOMEM),
notifying does not ask who has subscribed.
"""

import asyncio
import json
import os
import socket

try:
    import _host
except ImportError:
    _host = None

FLAG_READ = 0x0002
FLAG_WRITE_NO_RESPONSE = 0x0004
FLAG_WRITE = 0x0008
FLAG_NOTIFY = 0x0010
FLAG_INDICATE = 0x0020

_ENOMEM = 12
_EINVAL = 22
_ENODEV = 19
_ENOTCONN = 107
_NOT_YET = (11, 107, 114, 115)
_ROOM = 12  # notifications under way: MSYS_1_BLOCK_COUNT of ESP-IDF's NimBLE
_DEFAULT_BYTES = 20
_POLL_MS = 2
_CONNECT = 1
_DISCONNECT = 2
_WRITE = 3
_MTU = 21
_ENCRYPTION = 28
_GET_SECRET = 29
_SET_SECRET = 30
_PASSKEY = 31
_ROOM_AGAIN = 0


class UUID:
    def __init__(self, value):
        self.value = value

    def text(self):
        return "%04X" % self.value if isinstance(self.value, int) else self.value


def _place():
    """(host, port) of the radio and the board's address."""
    if _host is not None:
        if not _host.radio():
            raise OSError(_ENODEV)
        port, address = _host.radio().split(" ")
        return ("127.0.0.1", int(port)), address
    if not os.getenv("QEPA_RADIO"):
        raise OSError(_ENODEV)
    return ("127.0.0.1", int(os.getenv("QEPA_RADIO"))), os.getenv("QEPA_RADIO_ADDRESS")


def _bytes(text):
    return None if text is None else bytes.fromhex(text)


class BLE:
    _only = None

    def __new__(cls):
        if cls._only is None:
            cls._only = object.__new__(cls)
            cls._only._begin()
        return cls._only

    def _begin(self):
        self._handler = None
        self._socket = None
        self._config = {"gap_name": b"MPY ESP32", "mtu": 256, "bond": False, "mitm": False, "le_secure": False, "io": 3}
        self._values = {}
        self._sizes = {}
        self._connections = []
        self._under_way = 0

    def active(self, on=None):
        if on and self._socket is None:
            place, address = _place()
            self._address = address
            self._outgoing = b""
            self._incoming = b""
            self._socket = socket.socket()
            self._socket.setblocking(False)
            try:
                self._socket.connect(socket.getaddrinfo(place[0], place[1])[0][-1])
            except OSError as error:
                if error.errno not in _NOT_YET:
                    raise
            self._send("on", address=address, **self._settings())
            asyncio.create_task(self._serve(self._socket))
        elif on is not None and not on and self._socket is not None:
            self._socket.close()
            self._socket = None
        return self._socket is not None

    def _settings(self):
        return {name: self._config[name] for name in ("mtu", "bond", "mitm", "le_secure", "io")}

    def _check(self):
        if self._socket is None:
            raise OSError(_ENODEV)

    def _send(self, op, **message):
        message["op"] = op
        self._outgoing += json.dumps(message).encode() + b"\n"

    async def _serve(self, sock):
        chunk = bytearray(4096)
        while sock is self._socket:
            if self._outgoing:
                try:
                    count = sock.write(self._outgoing)
                except OSError as error:
                    if error.errno not in _NOT_YET:
                        raise
                    count = None
                if count:
                    self._outgoing = self._outgoing[count:]
            try:
                count = sock.readinto(chunk)
            except OSError as error:
                if error.errno not in _NOT_YET:
                    raise
                count = None
            if count == 0:
                self._socket = None
                return
            if count:
                self._incoming += bytes(chunk[:count])
                lines = self._incoming.split(b"\n")
                self._incoming = lines.pop()
                for line in lines:
                    self._take(json.loads(line))
            await asyncio.sleep_ms(0 if count else _POLL_MS)

    def _take(self, message):
        event = message["event"]
        conn = message.get("conn")
        if event == _ROOM_AGAIN:
            self._under_way -= message["count"]
        elif event in (_CONNECT, _DISCONNECT):
            if event == _CONNECT:
                self._connections.append(conn)
            elif conn in self._connections:
                self._connections.remove(conn)
                self._under_way = 0
            self._call(event, (conn, message["address_type"], _bytes(message["address"])))
        elif event == _WRITE:
            handle = message["handle"]
            self._values[handle] = _bytes(message["value"])[: self._sizes[handle]]
            self._call(event, (conn, handle))
        elif event == _MTU:
            self._call(event, (conn, message["mtu"]))
        elif event == _ENCRYPTION:
            flags = tuple(message[name] for name in ("encrypted", "authenticated", "bonded", "key_size"))
            self._call(event, (conn,) + flags)
        elif event == _GET_SECRET:
            value = self._call(event, (message["type"], message["index"], _bytes(message["key"])))
            self._send("secret", id=message["id"], value=None if value is None else bytes(value).hex())
        elif event == _SET_SECRET:
            self._call(event, (message["type"], _bytes(message["key"]), _bytes(message["value"])))
        elif event == _PASSKEY:
            self._call(event, (conn, message["action"], 0))

    def _call(self, event, data):
        return None if self._handler is None else self._handler(event, data)

    def irq(self, handler):
        self._handler = handler

    def config(self, *names, **settings):
        if names:
            if names[0] == "mac":
                return (1, bytes.fromhex(self._address.replace(":", "")))
            return self._config[names[0]]
        self._config.update(settings)
        if self._socket is not None:
            self._send("config", **self._settings())
        return None

    def gatts_register_services(self, services):
        self._check()
        all_handles = []
        definitions = []
        self._values = {}
        for uuid, characteristics in services:
            handles = []
            definition = []
            for characteristic in characteristics:
                handle = len(self._values) + 1
                self._values[handle] = b""
                self._sizes[handle] = _DEFAULT_BYTES
                handles.append(handle)
                definition.append({"uuid": characteristic[0].text(), "flags": characteristic[1], "handle": handle})
            definitions.append({"uuid": uuid.text(), "characteristics": definition})
            all_handles.append(tuple(handles))
        self._send("register", services=definitions)
        return tuple(all_handles)

    def gap_advertise(self, interval_us, adv_data=None, *, resp_data=None, connectable=True):
        self._check()
        if interval_us is None:
            self._send("stop_advertising")
        else:
            self._send("advertise", data=b"" if adv_data is None else bytes(adv_data).hex())

    def gap_disconnect(self, conn):
        self._to(conn)
        self._send("disconnect", conn=conn)
        return True

    def gap_pair(self, conn):
        self._to(conn)
        self._send("pair", conn=conn)

    def gap_passkey(self, conn, action, passkey):
        self._to(conn)
        self._send("passkey", conn=conn, passkey=passkey)

    def _to(self, conn):
        self._check()
        if conn not in self._connections:
            raise OSError(_ENOTCONN)

    def gatts_read(self, handle):
        return self._values[handle]

    def gatts_write(self, handle, data, send_update=False):
        self._values[handle] = bytes(data)
        self._send("value", handle=handle, value=bytes(data).hex(), send=send_update)

    def gatts_set_buffer(self, handle, size, append=False):
        if append:
            raise OSError(_EINVAL)
        self._sizes[handle] = size

    def gatts_notify(self, conn, handle, data=None):
        self._to(conn)
        if self._under_way >= _ROOM:
            raise OSError(_ENOMEM)
        self._under_way += 1
        value = self._values[handle] if data is None else bytes(data)
        self._send("notify", conn=conn, handle=handle, value=value.hex())
