/**
 * The state feed: server-sent events, and polling for as long as events do not come.
 *
 * `onState(state)` is called for every state that is news: readable, and with a server time other than the last one, so
 * that a proxy which repeats an old answer is not taken for a living server. `onTrouble(sentence)` says why one was not.
 */
import { parseState, StateError } from "./state.js";

const SILENCE_MS = 2500; // events come about once a second
const POLL_MS = 1000;
const REQUEST_MS = 2000;
const RECONNECT_MS = [1000, 2000, 5000, 10000];

export class StateFeed {
  #onState;
  #onTrouble;
  #source = null;
  #failures = 0;
  #lastEventAt = -Infinity;
  #openedAt = -Infinity;
  #retryAt = 0;
  #lastNowMs = null;
  #polling = false;

  /** @param {{onState: (state: any) => void, onTrouble: (sentence: string) => void}} listeners */
  constructor({ onState, onTrouble }) {
    this.#onState = onState;
    this.#onTrouble = onTrouble;
  }

  start() {
    this.#check();
    setInterval(() => this.#check(), POLL_MS);
  }

  /** Asks at once, for instance after an alarm was acknowledged. */
  async refresh() {
    if (this.#polling) return;
    this.#polling = true;
    const body = await this.#request();
    this.#polling = false;
    if (body !== null) this.#take(body);
  }

  async #request() {
    try {
      const answer = await fetch("/api/state", { cache: "no-store", signal: AbortSignal.timeout(REQUEST_MS) });
      if (answer.ok) return await answer.text();
      this.#onTrouble(`the server answered ${answer.status}`);
    } catch (error) {
      this.#onTrouble(error.name === "TimeoutError" ? "the server does not answer" : "the server cannot be reached");
    }
    return null;
  }

  #check() {
    const now = performance.now();
    if (this.#source && now - Math.max(this.#lastEventAt, this.#openedAt) > SILENCE_MS) this.#close();
    if (!this.#source && now >= this.#retryAt) this.#open();
    if (now - this.#lastEventAt > SILENCE_MS) this.refresh();
  }

  #open() {
    this.#openedAt = performance.now();
    const source = new EventSource("/api/events");
    const onEvent = (event) => {
      this.#lastEventAt = performance.now();
      this.#failures = 0;
      this.#take(event.data);
    };
    source.addEventListener("message", onEvent);
    source.addEventListener("state", onEvent);
    source.addEventListener("error", () => this.#source === source && this.#close());
    this.#source = source;
  }

  #close() {
    this.#source.close();
    this.#source = null;
    this.#retryAt = performance.now() + RECONNECT_MS[Math.min(this.#failures, RECONNECT_MS.length - 1)];
    this.#failures += 1;
  }

  #take(body) {
    let state;
    try {
      state = parseState(body);
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      this.#onTrouble(error.message);
      return;
    }
    if (state.nowMs === this.#lastNowMs) return;
    this.#onState(state);
    this.#lastNowMs = state.nowMs;
  }
}
