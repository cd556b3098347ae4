/** The table of rounds: what was opened, over how many, and in words why something was not. */
import { element, reconcile, setAttributes, setText, svg } from "./elements.js";
import { binName, count, roundState, voidReason } from "./words.js";

const BAR = 12;
const HEIGHT = 28;

function histogram(bins, edges) {
  const most = Math.max(...bins, 1);
  const spoken = bins.map((boards, index) => [boards, index]).filter(([boards]) => boards > 0)
    .map(([boards, index]) => `${binName(index, bins.length, edges)} bpm: ${boards}`).join(", ");
  const bars = bins.map((boards, index) => {
    const height = (HEIGHT * boards) / most;
    return svg("rect", { x: index * BAR, y: HEIGHT - Math.max(height, 1), width: BAR - 2, height: Math.max(height, 1), class: boards ? "bar" : "bar none" },
      svg("title", {}, `${binName(index, bins.length, edges)} bpm: ${boards}`));
  });
  return svg("svg", { class: "histogram", viewBox: `0 0 ${bins.length * BAR} ${HEIGHT}`, width: bins.length * BAR, height: HEIGHT, role: "img", "aria-label": spoken || "empty" }, ...bars);
}

function cellLines(cells) {
  return cells.map((cell) => {
    const where = cell.gateways.length ? ` (${cell.gateways.join(", ")})` : "";
    const line = element("li", { class: `cell ${cell.state === "void" ? "void" : ""}` });
    const outcome = cell.state === "void" ? `void: ${voidReason(cell.reason)}` : cell.state;
    line.append(element("span", { class: "cell-id" }, `${cell.id}${where}`), ` ${outcome}`);
    return line;
  });
}

class RoundRow {
  #last = "";

  constructor({ number }) {
    const cell = (name, label, attributes = {}) => element("td", { "data-testid": `round-${number}-${name}`, "data-label": label, ...attributes });
    this.number = element("th", { scope: "row" });
    this.state = cell("state", "State");
    this.cells = cell("cells", "Cells");
    this.patients = cell("patients", "Patients", { class: "number" });
    this.contributors = cell("contributors", "Contributors", { class: "number" });
    this.heartRate = cell("heart-rate", "Mean \u00b1 SD");
    this.histogram = cell("histogram", "Histogram");
    this.latency = cell("latency", "Latency", { class: "number" });
    this.model = cell("model", "Model", { class: "number" });
    this.root = element("tr", { "data-testid": `round-${number}` }, this.number, this.state, this.cells, this.patients,
      this.contributors, this.heartRate, this.histogram, this.latency, this.model);
  }

  update(round) {
    const now = JSON.stringify(round);
    if (now === this.#last) return;
    this.#last = now;
    const rate = round.heartRate;
    setAttributes(this.root, { "data-state": round.state });
    setText(this.number, count(round.number));
    setText(this.state, roundState(round.state));
    const none = round.state === "void" ? [element("li", { class: "cell void" }, `no cells: ${voidReason(round.reason)}`)] : [element("li", {}, "--")];
    this.cells.replaceChildren(element("ul", {}, ...(round.cells.length ? cellLines(round.cells) : none)));
    setText(this.patients, count(round.patients));
    setText(this.contributors, count(round.contributors));
    const spread = rate?.sdBpm === null || !rate ? "" : ` ± ${rate.sdBpm.toFixed(1)}`;
    setText(this.heartRate, rate && rate.meanBpm !== null ? `${rate.meanBpm.toFixed(1)}${spread} bpm (${count(rate.boards)} boards)` : "nothing opened");
    this.histogram.replaceChildren(...(rate && rate.histogram.length ? [histogram(rate.histogram, rate.edges)] : ["--"]));
    setText(this.latency, round.latencyMs === null ? "--" : `${count(Math.round(round.latencyMs))} ms`);
    setText(this.model, round.modelVersion === null ? "--" : `v${round.modelVersion}`);
  }
}

export class RoundTable {
  #body = document.getElementById("rounds");
  #empty = document.getElementById("no-rounds");

  show(rounds) {
    setAttributes(this.#empty, { hidden: rounds.length > 0 });
    reconcile(this.#body, rounds, (round) => String(round.number), (round) => new RoundRow(round));
  }
}
