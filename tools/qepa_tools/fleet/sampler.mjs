// Delivers a record's samples to one board in bursts that follow the ward's clock, never more than half a second of
// them beyond the last feed of the watchdog: a board that is slow falls behind, it loses nothing.
import fs from 'node:fs';

export const WARD_MS = 0; // index in the ward's shared Int32Array: virtual time, milliseconds
export const SPEED_PERMILLE = 1;
export const RUNNING = 0, POSITION_MS = 1, FEEDS = 2, DELIVERED = 3, WATCHDOG_MS = 4; // indices in a board's
export const BOARD_SLOTS = 8;

const MID_RAIL = 0x8000; // an ADC pin with nothing but the bias of the front end
const RAIL = 0xffff; // an AD8232 without its electrodes

export class Sampler {
  // `index`: record index of the first sample of this boot. `burst(n)` runs the callbacks of n samples that
  // were laid into `buffer()`, a Uint16Array over the interpreter's memory.
  constructor({ ward, slots, ecg, index }) {
    Object.assign(this, { ward, slots, index });
    this.fs = ecg?.fs ?? 360;
    this.limit = Math.floor(this.fs / 2);
    this.delivered = 0;
    this.fedAt = 0;
    this.leadOff = false;
    this.pending = false;
    if (ecg) {
      this.file = fs.openSync(ecg.path, 'r');
      this.length = Math.floor(fs.fstatSync(this.file).size / 2);
    }
  }

  attach(buffer, burst) {
    Object.assign(this, { buffer, burst });
    const speed = Math.max(1, Atomics.load(this.ward, SPEED_PERMILLE) / 1000);
    this.interval = setInterval(() => this.deliver(), Math.min(100, Math.max(5, Math.round(100 / speed))));
  }

  // `most`: samples that the interpreter takes beyond its last feed.
  run(running, most) {
    this.ahead = Math.min(this.limit, most);
    if (running && !Atomics.load(this.slots, RUNNING)) {
      this.anchorMs = Atomics.load(this.ward, WARD_MS) - (this.delivered * 1000) / this.fs;
      this.publish();
    }
    Atomics.store(this.slots, RUNNING, running ? 1 : 0);
  }

  // `total`: samples whose callbacks have run, this one included.
  feed(total) {
    this.fedAt = total;
    Atomics.add(this.slots, FEEDS, 1);
    if (this.pending) return;
    this.pending = true;
    setImmediate(() => {
      this.pending = false;
      this.deliver();
    });
  }

  deliver() {
    if (!Atomics.load(this.slots, RUNNING)) return;
    const due = Math.floor(((Atomics.load(this.ward, WARD_MS) - this.anchorMs) * this.fs) / 1000);
    let backlog = due - this.delivered;
    if (backlog > this.limit) {
      this.anchorMs += ((backlog - this.limit) * 1000) / this.fs;
      backlog = this.limit;
    }
    const count = Math.min(backlog, this.fedAt + this.ahead - this.delivered);
    if (count <= 0) return;
    this.read(this.buffer().subarray(0, count));
    this.delivered += count;
    this.publish();
    this.burst(count);
  }

  publish() {
    Atomics.store(this.slots, POSITION_MS, Math.floor(this.anchorMs + (this.delivered * 1000) / this.fs));
    Atomics.store(this.slots, DELIVERED, this.delivered);
  }

  read(into) {
    if (this.leadOff) return void into.fill(RAIL);
    if (!this.file) return void into.fill(MID_RAIL);
    for (let done = 0; done < into.length; ) {
      const at = (this.index + this.delivered + done) % this.length;
      const count = Math.min(into.length - done, this.length - at);
      const bytes = new Uint8Array(into.buffer, into.byteOffset + done * 2, count * 2);
      if (fs.readSync(this.file, bytes, 0, count * 2, at * 2) !== count * 2) throw new Error('ECG file was cut short');
      done += count;
    }
    return undefined;
  }
}
