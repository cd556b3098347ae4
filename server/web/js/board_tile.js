/** One tile a board: the heart rate to be read across the room, and beside it what the number rests on. */
import { BeatView } from "./beat_view.js";
import { EcgView } from "./ecg.js";
import { element, reconcile, setAttributes, setText } from "./elements.js";
import { FINDINGS_STALE_MS, measured, reading } from "./freshness.js";
import { drawTrend, Trend } from "./trend.js";
import { alarmKind, beatName, count, duration, keySource, measureName, unitName, whyUnknown } from "./words.js";

const QUALITY_STEPS = [20, 40, 60, 80];
const HEART_RATE = 1; // the tile's own number

/** One measure: name, value with unit, and what it rests on. */
class MeasureRow {
  constructor(board, code) {
    this.name = element("dt");
    this.value = element("span", { "data-testid": `measure-${code}-${board}` });
    this.basis = element("span", { class: "basis", "data-testid": `basis-${code}-${board}` });
    this.root = element("div", {}, this.name, element("dd", {}, this.value, this.basis));
  }

  update({ measure, current }) {
    const shown = measured(measure, current);
    const unit = unitName(measure.unit);
    setText(this.name, measureName(measure.name));
    setText(this.value, shown.value === null ? "--" : unit ? `${shown.value} ${unit}` : shown.value);
    const quality = shown.quality === null ? "" : `${Math.round(shown.quality)} %`;
    const words = shown.value === null ? [whyUnknown(shown.reason)] : [quality && `signal ${quality}`, measure.note];
    setText(this.basis, words.filter(Boolean).join(", "));
  }
}

/** What one model at the gateway found, under its name. */
class FindingGroup {
  #board;

  constructor(board) {
    this.#board = board;
    this.source = element("h4", { class: "basis" });
    this.rows = element("dl", { class: "stacked measure-facts" });
    this.root = element("section", {}, this.source, this.rows);
  }

  update({ source, readings, current }) {
    setText(this.source, source);
    showMeasures(this.rows, this.#board, readings.map((measure) => ({ measure, current })));
  }
}

function showMeasures(parent, board, rows) {
  reconcile(parent, rows, ({ measure }) => measure.code, ({ measure }) => new MeasureRow(board, measure.code));
}

export class BoardTile {
  #board = null;
  #trend = new Trend();

  constructor({ board }) {
    const field = (name) => element("dd", { "data-testid": `${name}-${board}` });
    this.patient = element("h3", { class: "patient", "data-testid": `patient-${board}` });
    this.id = element("span", { class: "board-id" });
    this.alarm = element("p", { class: "tile-alarm", "data-testid": `tile-alarm-${board}`, hidden: true });
    this.hr = element("span", { class: "hr", "data-testid": `hr-${board}` });
    this.why = element("span", { class: "why", "data-testid": `why-${board}` });
    this.age = element("span", { class: "age", "data-testid": `age-${board}` });
    this.canvas = element("canvas", { class: "trend", role: "img", "aria-label": "Heart rate, last 3 minutes", "data-testid": `trend-${board}` });
    this.bars = element("span", { class: "bars", "aria-hidden": "true" }, ...QUALITY_STEPS.map(() => element("i")));
    this.qualityText = element("span");
    this.beat = field("beat");
    this.lead = field("lead");
    this.measures = element("dl", { class: "stacked measure-facts", "data-testid": `measures-${board}`, hidden: true });
    this.findings = element("div", { class: "findings", "data-testid": `findings-${board}`, hidden: true });
    this.ecg = new EcgView(board);
    this.beatView = new BeatView(board);
    this.asked = element("div", { class: "asked" }, element("div", { class: "ask" }, this.ecg.button, this.beatView.button), this.ecg.box, this.beatView.box);
    this.key = field("key");
    this.pads = field("pads");
    this.model = field("model");
    this.gateway = field("gateway");
    const quality = element("dd", { "data-testid": `quality-${board}` }, this.bars, this.qualityText);
    const fact = (label, value) => element("div", {}, element("dt", {}, label), value);
    this.root = element("li", { class: "tile", "data-testid": `tile-${board}` },
      element("div", { class: "tile-head" }, this.patient, this.id),
      this.alarm,
      this.hr,
      element("div", { class: "number-side" }, element("span", { class: "unit" }, "bpm"), this.why, this.age),
      element("div", { class: "trend-box" }, this.canvas),
      element("dl", { class: "stacked vital-facts" }, fact("Signal", quality), fact("Lead", this.lead), fact("Beat", this.beat)),
      this.measures,
      this.findings,
      this.asked,
      element("dl", { class: "stacked key-facts" }, fact("Key", this.key), fact("Pads left", this.pads), fact("Model", this.model), fact("Gateway", this.gateway)));
  }

  /** A new state came: remember it and let the trend have its reading. */
  update({ board, alarm, heldMs, nowMs }) {
    this.#board = board;
    const shown = reading(board, heldMs, false);
    if (!board.consent) this.#trend.clear();
    else this.#trend.add(shown.live ? nowMs - shown.ageMs : nowMs, shown.live ? board.vitals.hrBpm : null);
    setText(this.patient, board.patient || "no patient");
    setAttributes(this.patient, { title: board.patient });
    setText(this.id, board.board);
    setAttributes(this.alarm, { hidden: !alarm, class: `tile-alarm ${alarm ? alarm.look : ""}` });
    setAttributes(this.root, { "data-alarm": alarm ? alarm.level : null });
    setText(this.alarm, alarm ? `${alarm.mark} ${alarmKind(alarm.kind)}${alarm.acknowledged ? " (acknowledged)" : ""}` : "");
  }

  /** Shows the board as it is now; called several times a second, so that nothing freezes between two states. */
  tick({ heldMs, lost }) {
    const board = this.#board;
    const shown = reading(board, heldMs, lost);
    const state = shown.live ? "live" : !board.consent ? "no-consent" : lost ? "lost" : "stale";
    setAttributes(this.root, { "data-state": state });
    setText(this.hr, shown.hr);
    setText(this.why, shown.why);
    setText(this.age, shown.ageMs === null || !Number.isFinite(shown.ageMs) ? "" : `${duration(shown.ageMs)} ago`);

    const vitals = shown.why === "connection lost" || shown.why === "no current value" ? null : board.vitals;
    this.#showQuality(vitals?.qualityPercent ?? null);
    setText(this.lead, !vitals ? "--" : vitals.leadOff ? "OFF" : "on");
    setAttributes(this.lead, { "data-warn": Boolean(vitals?.leadOff) });
    const beat = shown.live ? vitals.beatClass : "";
    setText(this.beat, beat ? `${beat} ${beatName(beat)}` : "--");
    setAttributes(this.beat, { "data-warn": beat === "V" || beat === "F" });

    this.#showMeasures(board, shown, { heldMs, lost });
    setAttributes(this.asked, { hidden: !board.consent });
    this.ecg.tick({ consent: board.consent, lost });
    this.beatView.tick({ explained: board.explained, heldMs, lost });

    setText(this.key, lost ? "--" : keySource(board.keySource));
    setAttributes(this.key, { "data-key": lost ? null : board.keySource });
    setText(this.pads, lost ? "--" : count(board.pads));
    setAttributes(this.pads, { "data-warn": !lost && board.pads === 0 });
    setText(this.model, lost || board.modelVersion === null ? "--" : `v${board.modelVersion}`);
    setText(this.gateway, lost ? "--" : board.online ? board.gateway || "none" : `${board.gateway || "none"}, offline`);
    setAttributes(this.gateway, { "data-warn": !lost && !board.online });
  }

  draw(nowMs) {
    drawTrend(this.canvas, this.#trend, nowMs);
    this.beatView.draw();
  }

  /** Every measure but the heart rate, then what models at the gateway found; without consent none is even named. */
  #showMeasures(board, shown, { heldMs, lost }) {
    const measures = (board.vitals?.measures ?? []).filter((measure) => measure.code !== HEART_RATE);
    const working = !lost && board.mode !== "safe";
    setAttributes(this.measures, { hidden: measures.length === 0 });
    showMeasures(this.measures, board.board, measures.map((measure) => ({ measure, current: working && shown.why !== "no current value" })));
    setAttributes(this.findings, { hidden: board.findings.length === 0 });
    reconcile(this.findings, board.findings.map((found) => ({ ...found, current: working && found.ageMs + heldMs <= FINDINGS_STALE_MS })),
      ({ source }) => source, () => new FindingGroup(board.board));
  }

  #showQuality(percent) {
    const filled = percent === null ? 0 : QUALITY_STEPS.filter((step) => percent >= step).length;
    setAttributes(this.bars, { "data-filled": filled });
    [...this.bars.children].forEach((bar, index) => setAttributes(bar, { class: index < filled ? "on" : null }));
    setText(this.qualityText, percent === null ? "--" : `${Math.round(percent)} %`);
  }
}
