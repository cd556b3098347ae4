/** Per gateway: the optical link, its key stock, what waits in the spool, what was refused. */
import { element, reconcile, setAttributes, setText } from "./elements.js";
import { count, linkState, refusal, rolloutState, threat } from "./words.js";

const QBER_LIMIT = 0.11; // BB84 with one-way post-processing gives no key above (Shor and Preskill 2000)

/** Counters by reason, in words; a reason the server counts under two codes is still two lines. */
export function showRefused(list, refused) {
  const items = refused.length ? refused : [["", null]];
  reconcile(list, items, ([reason]) => reason, () => {
    const root = element("li");
    return { root, update: ([reason, times]) => setText(root, times === null ? "nothing refused" : `${refusal(reason)} (${reason}): ${count(times)}`) };
  });
}

class LinkCard {
  #gateway = null;

  constructor({ name }) {
    const field = (what) => element("dd", { "data-testid": `link-${what}-${name}` });
    this.name = element("h3");
    this.online = element("span", { class: "presence" });
    this.state = field("state");
    this.qber = field("qber");
    this.stored = field("stored");
    this.produced = field("produced");
    this.consumed = field("consumed");
    this.spool = field("spool");
    this.threat = field("threat");
    this.rekey = field("rekey");
    this.rollouts = element("dl", { class: "facts link-facts", "data-testid": `rollouts-${name}` });
    this.note = element("p", { class: "note" });
    this.refused = element("ul", { class: "refused", "data-testid": `refused-${name}` });
    const fact = (label, value) => element("div", {}, element("dt", {}, label), value);
    this.root = element("li", { class: "link", "data-testid": `link-${name}` },
      element("div", { class: "tile-head" }, this.name, this.online), this.note,
      element("dl", { class: "facts link-facts" }, fact("Link", this.state), fact("QBER", this.qber), fact("Stored keys", this.stored),
        fact("Bits produced", this.produced), fact("Bits consumed", this.consumed), fact("In the spool", this.spool),
        fact("Threat level", this.threat), fact("Rekeying advised", this.rekey)),
      this.rollouts,
      element("h4", {}, "Refused by this gateway"), this.refused);
  }

  update(gateway) {
    this.#gateway = gateway;
    setText(this.name, gateway.name || "unnamed gateway");
    showRefused(this.refused, gateway.refused);
    reconcile(this.rollouts, gateway.rollouts, ({ kind }) => kind, ({ kind }) => {
      const state = element("dd", { "data-testid": `rollout-${kind}-${gateway.name}` });
      const update = (rollout) => {
        setText(state, rolloutState(rollout));
        setAttributes(state, { "data-warn": /^(withdrawn|refused)$/.test(rollout.stage) });
      };
      return { root: element("div", {}, element("dt", {}, `${kind[0]?.toUpperCase() ?? ""}${kind.slice(1)}`), state), update };
    });
  }

  /** What the link does is live: it turns to dashes when the server, or the gateway, is not there. */
  tick(lost) {
    const { link, online, spool } = this.#gateway;
    const reported = link && online && !lost;
    const known = reported && !/^unreachable/.test(link.state); // figures of an end that did not answer are no figures
    setText(this.online, lost ? "--" : online ? "online" : "offline");
    setAttributes(this.online, { "data-warn": lost || !online });
    setText(this.note, lost || !online || link ? "" : "No optical link is reported: keys come from the post-quantum ratchet.");
    setAttributes(this.note, { hidden: !this.note.textContent });
    setText(this.state, reported ? linkState(link.state) : "--");
    setAttributes(this.state, { "data-warn": Boolean(reported && /^(unreachable|no key|idle)/.test(link.state)) });
    setText(this.qber, known && link.qber !== null ? `${(100 * link.qber).toFixed(2)} %` : "--");
    setAttributes(this.qber, { "data-warn": Boolean(known && link.qber > QBER_LIMIT) });
    setText(this.stored, known ? count(link.storedKeys) : "--");
    setAttributes(this.stored, { "data-warn": Boolean(known && link.storedKeys === 0) });
    setText(this.produced, known ? count(link.bitsProduced) : "--");
    setText(this.consumed, known ? count(link.bitsConsumed) : "--");
    setText(this.threat, known ? threat(link.threatLevel) : "--");
    setAttributes(this.threat, { "data-warn": Boolean(known && link.threatLevel !== "normal") });
    setText(this.rekey, known && link.rekeyS !== null ? `every ${Math.round(link.rekeyS)} s` : "--");
    setText(this.spool, online && !lost ? count(spool) : "--");
  }
}

export class LinkPanel {
  #list = document.getElementById("links");
  #empty = document.getElementById("no-links");
  #refused = document.getElementById("refused");
  #cards = [];

  show(gateways, refused) {
    setAttributes(this.#empty, { hidden: gateways.length > 0 });
    this.#cards = reconcile(this.#list, gateways, (gateway) => gateway.name, (gateway) => new LinkCard(gateway));
    showRefused(this.#refused, refused);
  }

  tick(lost) {
    for (const card of this.#cards) card.tick(lost);
  }
}
