// Host side of the socket module: non-blocking TCP over node's net. Functions return a count or a negative errno of
// MicroPython. Buffers are as small as lwIP's on an ESP32, so that a slow peer is felt by the firmware alike.
import net from 'node:net';

const EBADF = 9, EAGAIN = 11, EINPROGRESS = 115, EALREADY = 114, EISCONN = 106, ENOTCONN = 107;
const BY_CODE = {
  ECONNREFUSED: 111, ECONNRESET: 104, EPIPE: 104, ETIMEDOUT: 110, EHOSTUNREACH: 113, ENETUNREACH: 101, ENOTFOUND: 113,
};
const SEND_BUFFER = 5760;
const RECEIVE_WINDOW = 5760;
const POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16;

export function socketFunctions(view) {
  const sockets = new Map();
  let lastId = 0;

  function connection(host, port) {
    const state = { connected: false, ended: false, error: 0, chunks: [], buffered: 0 };
    const peer = (state.peer = net.connect({ host, port }));
    peer.setNoDelay(true);
    peer.on('connect', () => (state.connected = true));
    peer.on('data', (chunk) => {
      state.chunks.push(chunk);
      state.buffered += chunk.length;
      if (state.buffered >= RECEIVE_WINDOW) peer.pause();
    });
    peer.on('end', () => (state.ended = true));
    peer.on('error', (error) => (state.error = BY_CODE[error.code] ?? 5));
    return state;
  }

  return {
    socket_new() {
      sockets.set(++lastId, null);
      return lastId;
    },
    socket_connect(id, host, port) {
      const state = sockets.get(id);
      if (state === undefined) return -EBADF;
      if (state) return state.error ? -state.error : state.connected ? -EISCONN : -EALREADY;
      sockets.set(id, connection(host, port));
      return -EINPROGRESS;
    },
    socket_send(id, address, length) {
      const state = sockets.get(id);
      if (!state) return state === null ? -ENOTCONN : -EBADF;
      if (state.error) return -state.error;
      if (!state.connected) return -EINPROGRESS;
      const count = Math.min(length, SEND_BUFFER - state.peer.writableLength);
      if (count <= 0) return length ? -EAGAIN : 0;
      state.peer.write(Buffer.from(view().subarray(address, address + count))); // a copy: it is sent later
      return count;
    },
    socket_receive(id, address, length) {
      const state = sockets.get(id);
      if (!state) return state === null ? -ENOTCONN : -EBADF;
      if (!state.chunks.length) return state.error ? -state.error : state.ended ? 0 : -EAGAIN;
      let count = 0;
      while (count < length && state.chunks.length) {
        const part = state.chunks[0].subarray(0, length - count);
        view().set(part, address + count);
        count += part.length;
        if (part.length === state.chunks[0].length) state.chunks.shift();
        else state.chunks[0] = state.chunks[0].subarray(part.length);
      }
      state.buffered -= count;
      if (state.buffered < RECEIVE_WINDOW && !state.ended) state.peer.resume();
      return count;
    },
    socket_poll(id) {
      const state = sockets.get(id);
      if (!state) return POLLHUP;
      const readable = state.chunks.length || state.ended ? POLLIN : 0;
      const writable = state.connected && state.peer.writableLength < SEND_BUFFER ? POLLOUT : 0;
      return readable | writable | (state.error ? POLLERR | POLLHUP : 0);
    },
    socket_close(id) {
      sockets.get(id)?.peer.end();
      sockets.delete(id);
    },
  };
}
