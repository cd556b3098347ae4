/** The part of a tile that answers why the gateway's model called the newest beat S, V or F, when somebody asks. */
import { drawBeat, parseBeat, strengths } from "./beat.js";
import { element, reconcile, setAttributes, setText, svg } from "./elements.js";
import { BEAT_STALE_MS, Stopwatch } from "./freshness.js";
import { beatName, duration, partName, percent, points } from "./words.js";

const ASK_AGAIN_MS = 2000;
const READ_MS = 10_000; // reasons stay that long before those of a newer beat take their place
const REQUEST_MS = 5000;
const HALF_BAR = 100;

/** A reason: what, in words, how many points, and a bar to the right (for) or to the left (against). */
class ReasonRow {
  constructor(board, name) {
    this.name = element("span", { class: "reason-name" }, partName(name));
    this.words = element("span", { class: "reason-words" });
    this.points = element("span", { class: "reason-points" });
    this.bar = svg("rect", { y: 0, height: 6 });
    const axis = svg("line", { x1: HALF_BAR, x2: HALF_BAR, y1: 0, y2: 6 });
    const picture = svg("svg", { class: "reason-bar", viewBox: `0 0 ${2 * HALF_BAR} 6`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.bar, axis);
    this.root = element("li", { class: "reason", "data-testid": `reason-${name}-${board}` }, this.name, picture, this.points, this.words);
  }

  update({ reason, filled }) {
    setText(this.words, reason.words);
    setAttributes(this.words, { title: reason.words });
    setText(this.points, `${points(reason.points)} points`);
    const width = HALF_BAR * Math.abs(filled);
    setAttributes(this.bar, { x: filled < 0 ? HALF_BAR - width : HALF_BAR, width, class: filled < 0 ? "against" : "for" });
  }
}

export class BeatView {
  #board;
  #open = false;
  #beat = null; // as the server gave it
  #sinceBeat = null;
  #asking = null; // the request under way
  #sinceAsked = null;
  #trouble = "";

  constructor(board) {
    const id = (name) => ({ id: `beat-${name}-${board}`, "data-testid": `beat-${name}-${board}` });
    this.#board = board;
    this.question = element("span", id("question"));
    this.age = element("span", { class: "beat-age", ...id("age") });
    this.button = element("button", { type: "button", "aria-expanded": "false", "aria-controls": `beat-box-${board}`,
      "aria-labelledby": this.question.id, "aria-describedby": this.age.id, hidden: true, ...id("show") }, this.question, " ", this.age);
    this.canvas = element("canvas", { class: "beat", role: "img", ...id("picture") });
    this.answer = element("span", { class: "key for" });
    this.rival = element("span", { class: "key against" });
    this.legend = element("p", { class: "beat-legend" }, element("span", { class: "key this" }, "this beat"),
      element("span", { class: "key usual" }, "usual beat"), this.answer, this.rival, element("span", {}, "lines 200 ms apart"));
    this.reasons = element("ul", { class: "reasons", ...id("reasons") });
    this.source = element("p", { class: "basis", ...id("source") });
    this.note = element("p", { class: "basis", ...id("note") });
    this.shown = element("div", {}, this.canvas, this.legend, this.reasons, this.source);
    this.box = element("div", { class: "beat-box", hidden: true, ...id("box") }, this.shown, this.note);
    this.button.addEventListener("click", () => (this.#open ? this.#close() : this.#expand(true)));
  }

  /** @param {{explained: {number: number, beat: string, ageMs: number}|null, heldMs: number, lost: boolean}} now */
  tick({ explained, heldMs, lost }) {
    const told = explained && explained.ageMs + heldMs <= BEAT_STALE_MS ? explained : null;
    setAttributes(this.button, { hidden: !told });
    if (!told) {
      this.#close();
      return;
    }
    if (lost) this.#forget();
    else if (this.#open && this.#isDue(told)) this.#ask();
    const other = this.#beat && this.#beat.number !== told.number; // a newer one will follow
    const ageMs = other ? this.#beat.ageMs + this.#sinceBeat.elapsedMs() : told.ageMs + heldMs;
    setText(this.question, `Why ${other ? this.#beat.answer : told.beat}?`);
    setText(this.age, lost ? "--" : `${duration(ageMs)} ago`);
    setAttributes(this.shown, { hidden: !this.#beat });
    setAttributes(this.note, { hidden: Boolean(this.#beat) });
    setText(this.note, this.#beat || !this.#open ? "" : lost ? "-- connection lost" : this.#trouble || "asking the server");
  }

  #isDue(told) {
    return !this.#beat || (this.#beat.number !== told.number && this.#sinceBeat.elapsedMs() >= READ_MS);
  }

  draw() {
    if (this.#open) drawBeat(this.canvas, this.#beat);
  }

  #expand(open) {
    this.#open = open;
    setAttributes(this.box, { hidden: !open });
    setAttributes(this.button, { "aria-expanded": String(open) });
    this.#sinceAsked = null;
    if (open) this.#ask();
  }

  #close() {
    if (!this.#open) return;
    this.#forget();
    this.#expand(false);
  }

  /** Nothing of a beat stays where it may not be shown. */
  #forget() {
    this.#asking?.abort();
    this.#asking = this.#beat = null;
    this.#trouble = "";
    drawBeat(this.canvas, null);
    reconcile(this.reasons, [], () => "", () => null);
    setText(this.source, "");
    setAttributes(this.canvas, { "aria-label": null });
    setAttributes(this.shown, { hidden: true });
  }

  async #ask() {
    if (this.#asking || this.#sinceAsked?.elapsedMs() < ASK_AGAIN_MS) return;
    const asking = (this.#asking = new AbortController());
    this.#sinceAsked = new Stopwatch();
    const patience = setTimeout(() => asking.abort(), REQUEST_MS);
    const { beat, trouble } = await request(this.#board, asking.signal);
    clearTimeout(patience);
    if (this.#asking !== asking) return; // closed, or the connection was lost, meanwhile
    if (!beat) this.#forget();
    this.#asking = null;
    this.#trouble = trouble;
    if (beat) this.#show(beat);
  }

  #show(beat) {
    this.#beat = beat;
    this.#sinceBeat = new Stopwatch();
    const filled = strengths(beat.reasons);
    const items = beat.reasons.map((reason, index) => ({ reason, filled: filled[index] }));
    reconcile(this.reasons, items, ({ reason }) => reason.name, ({ reason }) => new ReasonRow(this.#board, reason.name));
    setAttributes(this.reasons, { "aria-label": `Why ${beat.answer} ${beatName(beat.answer)}, strongest reason first` });
    setAttributes(this.canvas, { "aria-label": "This beat over the patient's usual beat; the reasons follow in words" });
    setText(this.answer, `for ${beat.answer}`);
    setText(this.rival, `against ${beat.answer}`);
    setText(this.source, sourceText(beat));
    setAttributes(this.shown, { hidden: false });
    setAttributes(this.note, { hidden: true });
    this.draw();
  }
}

/** What it is, and what it is not. */
export function sourceText({ answer, model, version, probabilities, startPoints, leadPoints }) {
  const likely = probabilities.map(([name, p]) => `${name}\u00a0${percent(p)}`).join(", ");
  const taken = startPoints >= 1 ? ` The model calls the usual beat ${answer}, too: reasons are only what this beat adds.` : "";
  return `Second opinion of the gateway's model ${model} v${version}, against this patient's own usual beat. Its probabilities: ${likely}. `
    + `${answer} ahead of N: usual beat ${points(startPoints)} points, this beat ${points(leadPoints)}; reasons make up the difference.${taken} Not for diagnosis.`;
}

async function request(board, signal) {
  try {
    const answer = await fetch(`/api/boards/${board}/beat`, { cache: "no-store", signal });
    if (answer.status === 404) return { beat: null, trouble: "the server has no reasons for it" };
    if (!answer.ok) return { beat: null, trouble: `the server answered ${answer.status}` };
    const beat = parseBeat(await answer.text());
    return { beat, trouble: beat ? "" : "the server's answer cannot be read" };
  } catch {
    return { beat: null, trouble: "the server cannot be reached" };
  }
}
