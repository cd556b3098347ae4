/**
 * What may still be shown as a number. The rule of this page: no number outlives its truth.
 *
 * Ages grow on this machine's clocks between two states. Two clocks are asked, because the monotonic one stands still
 * while a laptop sleeps; the one that saw more time counts.
 */

export const STALE_MS = 5000;
export const FINDINGS_STALE_MS = 15000; // gateways send findings of their models every five seconds
export const BEAT_STALE_MS = 300000; // an explained beat is of the past anyway
export const LOST_MS = 3000;
const DELAY_MEMORY = 30; // states

/** Time since a moment on this machine; a clock set back never makes anything younger. */
export class Stopwatch {
  #monotonic = performance.now();
  #wall = Date.now();

  elapsedMs() {
    return Math.max(performance.now() - this.#monotonic, Date.now() - this.#wall, 0);
  }
}

/**
 * How late a state arrived, measured against the quickest of the last ones: a queue that empties itself after a stall
 * delivers states that were true once. The server's `now_ms` must run as real time does, whatever the ward's speed.
 */
export class DeliveryDelay {
  #offsets = [];

  /** @param {number} serverMs the state's own time @param {number} hereMs this machine's @returns {number} ms, from 0 */
  measure(serverMs, hereMs) {
    this.#offsets = [...this.#offsets, hereMs - serverMs].slice(-DELAY_MEMORY);
    return this.#offsets.at(-1) - Math.min(...this.#offsets);
  }
}

/**
 * What a tile may say of a board.
 * @param {object} board @param {number} heldMs since the state was true @param {boolean} lost no news from the server
 * @returns {{hr: string, live: boolean, why: string, ageMs: number|null}} `why` in words, empty where the number is live
 */
export function reading(board, heldMs, lost) {
  const dashes = (why, ageMs = null) => ({ hr: "--", live: false, why, ageMs });
  if (!board.consent) return dashes("no consent: not monitored here");
  const ageMs = board.vitals ? board.vitals.ageMs + heldMs : null;
  if (lost) return dashes("connection lost", ageMs);
  if (board.mode === "safe") return dashes("safe mode: measures nothing", ageMs);
  if (ageMs === null) return dashes("no vitals yet");
  if (ageMs > STALE_MS) return dashes("no current value", ageMs);
  if (board.vitals.leadOff) return dashes("electrode off", ageMs);
  if (board.vitals.asystole) return dashes("no heartbeat", ageMs);
  if (board.vitals.hrBpm === null) return dashes("no heart rate", ageMs);
  return { hr: String(Math.round(board.vitals.hrBpm)), live: true, why: "", ageMs };
}

/**
 * What a tile may say of one measure: its value with quality, or dashes with the reason.
 * @param {object} measure @param {boolean} current whether the record is fresh and the server there
 * @returns {{value: string|null, quality: number|null, reason: string}} `reason` is a code of the server's, empty for a value
 */
export function measured(measure, current) {
  if (!current) return { value: null, quality: null, reason: "stale" };
  if (measure.value === null) return { value: null, quality: null, reason: measure.reason || "unknown" };
  return { value: String(measure.value), quality: measure.qualityPercent, reason: "" };
}
