/** A board's heart rate over the last three minutes. Where nothing was known there is a gap, never a line across it. */

import { blankSheet } from "./elements.js";

export const SPAN_MS = 180000;
const GAP_MS = 5000;
const LOW_BPM = 40;
const HIGH_BPM = 140;

export class Trend {
  #points = [];

  /** A reading at a time on this page's clock; null where there is none. */
  add(tMs, hrBpm) {
    const last = this.#points.at(-1);
    if (last && tMs < last.tMs - GAP_MS) this.clear(); // the clock was set back
    else if (last && tMs <= last.tMs) return; // the same sample seen again
    this.#points.push({ tMs, hrBpm });
    while (this.#points.length && this.#points[0].tMs < tMs - SPAN_MS) this.#points.shift();
  }

  clear() {
    this.#points = [];
  }

  /** Unbroken runs of points, oldest first: split at nulls and at silences. */
  runs() {
    const runs = [];
    let run = [];
    for (const point of this.#points) {
      const silent = run.length > 0 && point.tMs - run.at(-1).tMs > GAP_MS;
      if ((point.hrBpm === null || silent) && run.length) {
        runs.push(run);
        run = [];
      }
      if (point.hrBpm !== null) run.push(point);
    }
    if (run.length) runs.push(run);
    return runs;
  }
}

/** Draws `trend` as it is at `nowMs`; the right edge is now. Colours are the canvas's CSS `color` and `accent-color`. */
export function drawTrend(canvas, trend, nowMs) {
  const sheet = blankSheet(canvas);
  if (!sheet) return;
  const { context, width, height, ratio } = sheet;
  const style = getComputedStyle(canvas);
  const runs = trend.runs();
  const known = runs.flat().map((point) => point.hrBpm);
  const low = Math.min(LOW_BPM, ...known) - 5;
  const high = Math.max(HIGH_BPM, ...known) + 5;
  const x = (tMs) => width * (1 - (nowMs - tMs) / SPAN_MS) - 2 * ratio;
  const y = (bpm) => height * (1 - (bpm - low) / (high - low));

  context.strokeStyle = style.borderTopColor;
  context.lineWidth = ratio;
  context.beginPath();
  for (const minutes of [1, 2]) {
    context.moveTo(x(nowMs - minutes * 60000), 0);
    context.lineTo(x(nowMs - minutes * 60000), height);
  }
  for (const bpm of [60, 100]) {
    context.moveTo(0, y(bpm));
    context.lineTo(width, y(bpm));
  }
  context.stroke();

  context.strokeStyle = style.color;
  context.fillStyle = style.color;
  context.lineWidth = 1.8 * ratio;
  context.lineJoin = "round";
  for (const run of runs) {
    context.beginPath();
    run.forEach((point, index) => (index ? context.lineTo(x(point.tMs), y(point.hrBpm)) : context.moveTo(x(point.tMs), y(point.hrBpm))));
    context.stroke();
    const end = run.at(-1);
    context.beginPath();
    context.arc(x(end.tMs), y(end.hrBpm), 2 * ratio, 0, 2 * Math.PI);
    context.fill();
  }
}
