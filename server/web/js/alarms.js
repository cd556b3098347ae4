/**
 * Alarms in the order of IEC 60601-1-8's priorities; technical ones apart. An acknowledged alarm stops flashing and stays
 * for as long as its cause does: audio paused is not alarm off.
 */
import { element, reconcile, setAttributes, setText } from "./elements.js";
import { alarmKind, alarmPriority, clockTime, duration } from "./words.js";

const LEVELS = ["high", "medium", "low", "technical"];
const MARKS = { high: "!!!", medium: "!!", low: "!", technical: "i" };
const ENDED_SHOWN = 20;

/** What an alarm looks like; a priority that is not known here is shown as the highest. */
export function ranked(alarm) {
  const level = LEVELS.includes(alarm.priority) ? alarm.priority : "high";
  const look = `level-${level}${alarm.active && !alarm.acknowledged ? " flashing" : ""}`;
  return { ...alarm, level, mark: MARKS[level], look };
}

/** Active alarms, the most urgent first: by priority, then those nobody has acknowledged, then the newest. */
export function activeAlarms(alarms) {
  return alarms.filter((alarm) => alarm.active).map(ranked).sort((a, b) =>
    LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) || a.acknowledged - b.acknowledged || (b.sinceMs ?? 0) - (a.sinceMs ?? 0));
}

const whose = (alarm) => `${alarm.patient || "no patient"}, board ${alarm.board || "unknown"}`;

class AlarmRow {
  #alarm = null;
  #failed = false;

  constructor(alarm, acknowledge) {
    this.mark = element("span", { class: "mark", "aria-hidden": "true" });
    this.kind = element("strong");
    this.priority = element("span", { class: "priority" });
    this.whose = element("span", { class: "whose" });
    this.since = element("span", { class: "since" });
    this.done = element("span", { class: "acknowledged", "data-testid": `acknowledged-${alarm.id}` }, "Acknowledged: audio paused, cause still present");
    this.button = element("button", { type: "button", "data-testid": `acknowledge-${alarm.id}` }, "Acknowledge");
    this.button.addEventListener("click", async () => {
      this.button.disabled = true;
      this.#failed = !(await acknowledge(this.#alarm));
      this.button.disabled = false;
      setText(this.button, this.#failed ? "Try again" : "Acknowledge");
    });
    this.root = element("li", { "data-testid": `alarm-${alarm.id}` }, this.mark,
      element("div", { class: "alarm-text" }, element("span", { class: "alarm-title" }, this.kind, this.priority), this.whose, this.since),
      this.done, this.button);
  }

  update({ alarm, nowMs, lost }) {
    this.#alarm = alarm;
    setAttributes(this.root, { class: `alarm ${alarm.look}`, "data-level": alarm.level });
    setText(this.mark, alarm.mark);
    setText(this.kind, alarmKind(alarm.kind));
    setText(this.priority, alarmPriority(alarm.priority));
    setText(this.whose, whose(alarm));
    const held = alarm.sinceMs === null || lost ? "" : `, for ${duration(nowMs - alarm.sinceMs)}`;
    setText(this.since, `since ${clockTime(alarm.sinceMs)}${held}`);
    setAttributes(this.done, { hidden: !alarm.acknowledged });
    setAttributes(this.button, { hidden: alarm.acknowledged, "aria-label": `Acknowledge: ${alarmKind(alarm.kind)}, ${whose(alarm)}` });
  }
}

export class AlarmPanel {
  #known = new Set();

  /** @param {{onAcknowledged: () => void}} listeners called when the server has taken an acknowledgement */
  constructor({ onAcknowledged }) {
    this.onAcknowledged = onAcknowledged;
    for (const id of ["alarms", "technical", "technical-title", "ended", "ended-box", "ended-count", "no-alarms", "alarm-count", "alarm-problem", "speak", "speak-now"]) {
      this[id] = document.getElementById(id);
    }
  }

  show(alarms, nowMs, lost) {
    const active = activeAlarms(alarms);
    const item = (alarm) => ({ alarm, nowMs, lost });
    const row = ({ alarm }) => new AlarmRow(alarm, (which) => this.#acknowledge(which));
    const key = ({ alarm }) => alarm.id;
    reconcile(this.alarms, active.filter((alarm) => alarm.level !== "technical").map(item), key, row);
    reconcile(this.technical, active.filter((alarm) => alarm.level === "technical").map(item), key, row);
    setAttributes(this["technical-title"], { hidden: !active.some((alarm) => alarm.level === "technical") });
    setAttributes(this["no-alarms"], { hidden: active.length > 0 });
    setText(this["no-alarms"], lost ? "Alarms are unknown while the server is not there." : "No active alarms.");
    setText(this["alarm-count"], active.length === 0 ? "" : lost ? `${active.length} when last heard` : `${active.length} active`);
    this.#showEnded(alarms.filter((alarm) => !alarm.active).slice(0, ENDED_SHOWN));
    this.#announce(active);
  }

  #showEnded(ended) {
    setAttributes(this["ended-box"], { hidden: ended.length === 0 });
    setText(this["ended-count"], String(ended.length));
    reconcile(this.ended, ended, (alarm) => alarm.id, (alarm) => {
      const root = element("li", { "data-testid": `ended-${alarm.id}` });
      return { root, update: (now) => setText(root, `${clockTime(now.sinceMs)} to ${clockTime(now.endedMs)}: ${alarmKind(now.kind)}, ${whose(now)}${now.acknowledged ? "" : " (never acknowledged)"}`) };
    });
  }

  /** Speaks what is new, high priority at once; the list itself is not a live region, it changes every second. */
  #announce(active) {
    const fresh = active.filter((alarm) => !this.#known.has(alarm.id) && !alarm.acknowledged);
    this.#known = new Set(active.map((alarm) => alarm.id));
    const say = (alarm) => `${alarmPriority(alarm.priority)}: ${alarmKind(alarm.kind)}, ${whose(alarm)}`;
    const urgent = fresh.filter((alarm) => alarm.level === "high").map(say).join(". ");
    const rest = fresh.filter((alarm) => alarm.level !== "high").map(say).join(". ");
    if (urgent) setText(this["speak-now"], urgent);
    if (rest) setText(this.speak, rest);
  }

  async #acknowledge(alarm) {
    const problem = this["alarm-problem"];
    let why = "";
    try {
      const answer = await fetch(`/api/alarms/${encodeURIComponent(alarm.id)}/acknowledge`, { method: "POST", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) why = `the server answered ${answer.status}`;
    } catch {
      why = "the server cannot be reached";
    }
    setAttributes(problem, { hidden: !why });
    setText(problem, why && `Not acknowledged (${alarmKind(alarm.kind)}, ${whose(alarm)}): ${why}.`);
    if (!why) this.onAcknowledged();
    return !why;
  }
}
