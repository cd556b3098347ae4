// A board's console: what is typed arrives in messages, what the board prints leaves in `console` events, in base64.
const CTRL_C = 3;
const SOFT_REBOOT = 'MPY: soft reboot\r\n';

export class BoardConsole {
  constructor(send) {
    this.send = send;
    this.mp = null;
    this.early = []; // typed while the interpreter was starting
  }

  // Newlines become what a terminal needs, as on a board.
  write(bytes) {
    const text = Buffer.from(bytes);
    if (!text.length) return;
    const lines = Buffer.from(text.toString('latin1').replaceAll('\n', '\r\n'), 'latin1');
    this.send({ event: 'console', data: lines.toString('base64') });
  }

  hostFunctions(view, never) {
    return {
      console_write: (address, length) => this.write(view().slice(address, address + length)),
      soft_reset: (raw) => {
        this.send({ event: 'console', data: Buffer.from(SOFT_REBOOT).toString('base64') });
        this.send({ event: 'soft_reset', raw: Boolean(raw) });
        Atomics.wait(never, 0, 0); // the main thread ends this one
      },
    };
  }

  open(mp, raw, stopTasks) {
    this.stopTasks = stopTasks;
    mp.pyimport('_board').open_console(raw);
    this.feed = mp.pyimport('_board').feed_console;
    this.interrupt = mp.pyimport('_board').interrupt_console;
    const early = this.early;
    this.early = null;
    early.forEach((data) => this.type(data));
  }

  type(data) {
    if (this.early) {
      this.early.push(data);
      return;
    }
    for (const byte of Buffer.from(data, 'base64')) {
      if (byte === CTRL_C) {
        this.stopTasks();
        this.interrupt();
      } else {
        this.feed(byte);
      }
    }
  }
}
