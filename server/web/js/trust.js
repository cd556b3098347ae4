/**
 * What the server decided of trust: whose data is in no sum and why, what patients' privacy budgets have left, what rounds
 * do not ask for, and whether the audit log is the one that gateways countersigned.
 */
import { element, reconcile, setAttributes, setText } from "./elements.js";
import { clockTime, count, days, duration, purposeName, share } from "./words.js";

class QuarantineRow {
  constructor(held) {
    const id = `${held.kind}-${held.name}`;
    this.who = element("strong");
    this.since = element("span", { class: "since" });
    this.why = element("span", { class: "evidence", "data-testid": `evidence-${id}` });
    this.root = element("li", { class: "quarantine", "data-testid": `quarantine-${id}` },
      element("div", { class: "alarm-text" }, element("span", { class: "alarm-title" }, this.who, this.since), this.why));
  }

  update({ held, nowMs, lost }) {
    setText(this.who, `${held.kind} ${held.name}`);
    const lasting = held.sinceMs === null || lost ? "" : ` (${duration(nowMs - held.sinceMs)})`;
    setText(this.since, `since ${clockTime(held.sinceMs)}${lasting}, round ${count(held.round)}`);
    setText(this.why, held.sentence || "no evidence was given");
  }
}

/** One purpose: its noise, and what the patient who spent most and the median patient have spent and left. */
class PurposeRow {
  constructor({ purpose }) {
    const cell = (name, label, attributes = {}) => element("td", { "data-testid": `privacy-${name}-${purpose}`, "data-label": label, ...attributes });
    this.purpose = element("th", { scope: "row" });
    this.noise = cell("noise", "Noise");
    this.budget = cell("budget", "Budget");
    this.worst = cell("worst", "Spent most");
    this.median = cell("median", "Median");
    this.root = element("tr", { "data-testid": `privacy-${purpose}` }, this.purpose, this.noise, this.budget, this.worst, this.median);
  }

  update(row) {
    setText(this.purpose, purposeName(row.purpose));
    setText(this.noise, row.noise ? "sums carry noise" : "none: sums are exact");
    setAttributes(this.noise, { "data-warn": !row.noise });
    const period = row.periodMs ? ` in ${days(row.periodMs)}` : "";
    setText(this.budget, row.budgetEpsilon === null ? "no limit set" : `epsilon ${row.budgetEpsilon} at delta ${row.delta}${period}`);
    for (const [cell, standing] of [[this.worst, row.worst], [this.median, row.median]]) {
      setText(cell, standingText(standing));
      setAttributes(cell, { "data-warn": standing?.left === 0 });
    }
  }
}

function standingText(standing) {
  if (!standing) return "--";
  const spent = standing.spentEpsilon === null ? "no bound (sums without noise)" : `epsilon ${standing.spentEpsilon}`;
  return standing.left === null ? spent : `${spent}, ${share(standing.left)} left`;
}

/** Sentences on a log that is not what gateways countersigned; none where all is well. */
export function auditTroubles(audit) {
  const contradicted = Object.entries(audit.contradicted).map(([gateway, seq]) =>
    `Gateway ${gateway} countersigned entry ${count(seq)} of another audit log than this: the server's log was cut off, put back or rewritten.`);
  const refused = Object.entries(audit.refused).filter(([gateway]) => !Object.hasOwn(audit.contradicted, gateway))
    .map(([gateway, why]) => `Gateway ${gateway} refuses the audit log: ${why}.`);
  return [...contradicted, ...refused];
}

export class TrustPanel {
  constructor() {
    for (const id of ["quarantines", "quarantine-title", "no-quarantines", "not-asked", "privacy", "no-privacy", "audit", "audit-alarm"]) {
      this[id] = document.getElementById(id);
    }
  }

  show({ quarantines, privacy, notAskedFor, audit }, nowMs, lost) {
    const items = quarantines.map((held) => ({ held, nowMs, lost }));
    reconcile(this.quarantines, items, ({ held }) => `${held.kind} ${held.name}`,
      ({ held }) => new QuarantineRow(held));
    setAttributes(this["no-quarantines"], { hidden: quarantines.length > 0 });
    setText(this["no-quarantines"], lost ? "Unknown while the server is not there." : "Nobody is quarantined.");
    reconcile(this["not-asked"], notAskedFor, (sentence) => sentence, (sentence) => {
      const root = element("li", { "data-warn": true });
      return { root, update: () => setText(root, `Not asked for: ${sentence}`) };
    });
    setAttributes(this["no-privacy"], { hidden: privacy.length > 0 });
    reconcile(this.privacy, privacy, (row) => row.purpose, (row) => new PurposeRow(row));
    this.#showAudit(audit, lost);
  }

  #showAudit(audit, lost) {
    const kept = Object.entries(audit.kept).map(([gateway, seq]) => `${gateway} to entry ${count(seq)}`);
    const by = kept.length ? `Countersigned by ${kept.join(", ")}.` : "No gateway has countersigned it yet.";
    setText(this.audit, lost ? "--" : audit.entries === null ? "not reported" : `${count(audit.entries)} entries. ${by}`);
    const troubles = lost ? [] : auditTroubles(audit);
    setAttributes(this["audit-alarm"], { hidden: troubles.length === 0 });
    setText(this["audit-alarm"], troubles.join(" "));
  }
}
