/**
 * One board's ECG as monitors draw it: the newest second overwrites the oldest. What did not come is a gap, never a line
 * across it, and when records stop coming the trace goes.
 */
import { blankSheet, element, setAttributes, setText } from "./elements.js";

export const SPAN_S = 6;
const STALE_MS = 4000; // a record comes every second
const ERASED_S = 0.4; // ahead of the newest sample
const SHOWN_MV = 3.2;
const MOST_HZ = 500;

/** A record of the server's `/api/boards/BOARD/ecg`, or null if it is none. */
export function parseWave(body) {
  let wave;
  try {
    wave = JSON.parse(body);
  } catch {
    return null;
  }
  const whole = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;
  const sound = wave && whole(wave.fs_hz, 1, MOST_HZ) && whole(wave.first, 0, 2 ** 32) && whole(wave.boots, 0, 65535)
    && whole(wave.units_per_mv, 1, 1e6) && Array.isArray(wave.samples) && Array.isArray(wave.peaks)
    && wave.samples.length > 0 && wave.samples.length <= wave.fs_hz
    && wave.samples.every((value) => whole(value, -32768, 32767)) && wave.peaks.every((peak) => whole(peak, 0, 2 ** 32));
  return sound
    ? { fsHz: wave.fs_hz, first: wave.first, boots: wave.boots, peaks: wave.peaks, mv: wave.samples.map((value) => value / wave.units_per_mv) }
    : null;
}

/** The last SPAN_S seconds by number of sample; `values[n % values.length]` is sample n, NaN where it did not come. */
export class Sweep {
  constructor() {
    this.clear();
  }

  clear() {
    this.values = [];
    this.end = 0;
    this.fsHz = 0;
    this.boots = null;
    this.peaks = [];
  }

  add({ fsHz, boots, first, mv, peaks }) {
    const size = SPAN_S * fsHz;
    if (fsHz !== this.fsHz || boots !== this.boots || first < this.end) {
      this.clear();
      Object.assign(this, { fsHz, boots, end: first, values: new Array(size).fill(NaN) });
    }
    for (let n = Math.max(this.end, first - size); n < first; n += 1) this.values[n % size] = NaN;
    mv.forEach((value, index) => (this.values[(first + index) % size] = value));
    this.end = first + mv.length;
    this.peaks = [...this.peaks, ...peaks].filter((peak) => peak >= this.#oldest());
  }

  #oldest() {
    return this.end - this.values.length + Math.round(ERASED_S * this.fsHz);
  }

  /** Unbroken runs of [place from 0 to 1, millivolts], from left to right. */
  runs() {
    const size = this.values.length;
    const runs = [];
    let run = [];
    const end = () => {
      if (run.length) runs.push(run);
      run = [];
    };
    for (let place = 0; place < size; place += 1) {
      const turns = Math.floor((this.end - 1 - place) / size);
      const number = place + turns * size; // the newest sample of this place
      if (number < this.#oldest() || Number.isNaN(this.values[place])) end();
      else run.push([place / size, this.values[place]]);
      if (number === this.end - 1) end();
    }
    end();
    return runs;
  }

  /** Places of the R peaks, 0 to 1. */
  marks() {
    return this.peaks.map((peak) => (peak % this.values.length) / this.values.length);
  }
}

/** Draws `sweep`: a line each second, a millivolt's bar at the left, a tick above each R peak. Colours are the canvas's. */
export function drawSweep(canvas, sweep) {
  const sheet = blankSheet(canvas);
  if (!sheet) return;
  const { context, width, height, ratio } = sheet;
  const style = getComputedStyle(canvas);
  const y = (mv) => height * (0.5 - Math.max(-0.5, Math.min(0.5, mv / SHOWN_MV)));

  context.strokeStyle = style.borderTopColor;
  context.lineWidth = ratio;
  context.beginPath();
  for (let second = 1; second < SPAN_S; second += 1) {
    context.moveTo((width * second) / SPAN_S, 0);
    context.lineTo((width * second) / SPAN_S, height);
  }
  context.stroke();

  context.strokeStyle = style.color;
  context.lineWidth = 1.4 * ratio;
  context.lineJoin = "round";
  context.beginPath();
  context.moveTo(2 * ratio, y(-0.5));
  context.lineTo(2 * ratio, y(0.5));
  for (const mark of sweep.marks()) {
    context.moveTo(mark * width, 0);
    context.lineTo(mark * width, 5 * ratio);
  }
  for (const run of sweep.runs()) {
    run.forEach(([place, mv], index) => (index ? context.lineTo(place * width, y(mv)) : context.moveTo(place * width, y(mv))));
  }
  context.stroke();
}

/** The part of a tile that shows the ECG while somebody wants it: one board's at a time, as browsers hold few connections. */
export class EcgView {
  static #shown = null;
  #board;
  #source = null;
  #sweep = new Sweep();
  #heardAt = -Infinity;

  constructor(board) {
    this.#board = board;
    this.button = element("button", { type: "button", "aria-expanded": "false", "data-testid": `ecg-show-${board}` }, "Show ECG");
    this.canvas = element("canvas", { class: "ecg", role: "img", "aria-label": "ECG, last 6 seconds", "data-testid": `ecg-${board}` });
    this.note = element("span", { class: "basis", "data-testid": `ecg-note-${board}` });
    this.box = element("div", { hidden: true }, this.canvas, this.note);
    this.button.addEventListener("click", () => (this.#source ? this.#close() : this.#open()));
  }

  tick({ consent, lost }) {
    if (!consent) this.#close();
    setAttributes(this.button, { hidden: !consent });
    if (!this.#source) return;
    const current = !lost && performance.now() - this.#heardAt <= STALE_MS;
    if (!current && this.#sweep.end) {
      this.#sweep.clear();
      drawSweep(this.canvas, this.#sweep);
    }
    const refused = this.#source.readyState === EventSource.CLOSED;
    setAttributes(this.canvas, { "data-live": current });
    setText(this.note, current ? "as the board filters it, bar 1 mV, ticks its R peaks: not for diagnosis"
      : refused ? "the server gives no ECG of this board" : "no ECG now");
  }

  #open() {
    EcgView.#shown?.#close();
    EcgView.#shown = this;
    this.#heardAt = -Infinity;
    const source = new EventSource(`/api/boards/${this.#board}/ecg`);
    source.addEventListener("message", (event) => this.#source === source && this.#take(event.data));
    this.#source = source;
    this.#expand(true);
  }

  #close() {
    if (!this.#source) return;
    this.#source.close();
    this.#source = null;
    this.#sweep.clear();
    if (EcgView.#shown === this) EcgView.#shown = null;
    this.#expand(false);
  }

  #expand(open) {
    setAttributes(this.box, { hidden: !open });
    setAttributes(this.button, { "aria-expanded": String(open) });
    setText(this.button, open ? "Hide ECG" : "Show ECG");
    setText(this.note, open ? "waiting for the board" : "");
    if (open) drawSweep(this.canvas, this.#sweep);
  }

  #take(body) {
    const wave = parseWave(body);
    if (wave === null) return;
    this.#heardAt = performance.now();
    this.#sweep.add(wave);
    drawSweep(this.canvas, this.#sweep);
  }
}
