/**
 * The ward page: takes the server's state, shows it, and takes it back when it grows old.
 * The files are served under `/` (index.html at `/`), the state under `/api/`.
 *
 * Test ids (`data-testid`); <board> is the state's `boards[].board`, <id> `alarms[].id`, <n> a round's number, <gateway> a name:
 *   connection-banner, connection          shown while the server is not there; "live" or why not
 *   simulated-banner, knows                what is simulated; what the page may know
 *   server-time, model, round-now          the summary; disagreement: boards' model against the gateways'
 *   boards, board-count, tile-<board>      tiles; `data-state` is live | stale | lost | no-consent, `data-alarm` the highest level
 *   hr-<board>                             the heart rate: digits, or "--"
 *   why-<board>, age-<board>               why there is no number; "3 s ago"
 *   patient-, quality-, lead-, beat-, trend-, key-, pads-, model-, gateway-, tile-alarm-<board>
 *   beat-{show,age,box,picture,reasons,source,note}-<board>, reason-<part>-<board>    why the newest beat was called so
 *   ecg-show-<board>, ecg-<board>, ecg-note-<board>    the ECG on demand; the canvas's `data-live` while records come
 *   alarms, alarms-technical, alarms-ended, no-alarms, alarm-count, alarm-problem
 *   alarm-<id>, acknowledge-<id>, acknowledged-<id>, ended-<id>      `data-level` is high | medium | low | technical
 *   rounds, round-<n>, round-<n>-{state,cells,patients,contributors,heart-rate,histogram,latency,model}
 *   links, link-<gateway>, link-{state,qber,stored,produced,consumed,spool}-<gateway>, refused-<gateway>, refused-server
 *   link-{threat,rekey}-<gateway>, rollouts-<gateway>, rollout-<kind>-<gateway>
 *   quarantines, no-quarantines, {quarantine,evidence}-<kind>-<name>
 *   not-asked, privacy, privacy-<purpose>, privacy-{noise,budget,worst,median}-<purpose>, audit, audit-alarm
 *   speak-now, speak                       what a screen reader is told: at once, or when there is time
 */
import { AlarmPanel, activeAlarms } from "./alarms.js";
import { BoardTile } from "./board_tile.js";
import { reconcile, setAttributes, setText } from "./elements.js";
import { StateFeed } from "./feed.js";
import { DeliveryDelay, LOST_MS, Stopwatch } from "./freshness.js";
import { LinkPanel } from "./links.js";
import { RoundTable } from "./rounds.js";
import { TrustPanel } from "./trust.js";
import { clockTime, count, disagreementText, duration, modelState, roundPhase, simulationNotice } from "./words.js";

const TICK_MS = 250;
const DRAW_MS = 1000;

const at = (id) => document.getElementById(id);
const delay = new DeliveryDelay();
const rounds = new RoundTable();
const links = new LinkPanel();
const alarms = new AlarmPanel({ onAcknowledged: () => feed.refresh() });
const trust = new TrustPanel();
const feed = new StateFeed({ onState, onTrouble: (sentence) => (trouble = sentence) });

let state = null;
let tiles = [];
let sinceNews = new Stopwatch();
let delayMs = 0;
let trouble = "";
let wasLost = null;

const heldMs = () => delayMs + sinceNews.elapsedMs();
const isLost = () => state === null || sinceNews.elapsedMs() > LOST_MS;

function onState(next) {
  const nowMs = Date.now();
  delayMs = delay.measure(next.nowMs, nowMs);
  const active = activeAlarms(next.alarms);
  const boards = next.boards.toSorted((a, b) => a.patient.localeCompare(b.patient, "en", { numeric: true }) || a.board.localeCompare(b.board, "en"));
  const items = boards.map((board) => ({ board, alarm: active.find((alarm) => alarm.board === board.board), heldMs: delayMs, nowMs }));
  tiles = reconcile(at("tiles"), items, ({ board }) => board.board, ({ board }) => new BoardTile(board));
  setAttributes(at("no-boards"), { hidden: boards.length > 0 });
  rounds.show(next.rounds);
  links.show(next.gateways, next.refused);
  setAttributes(at("simulated"), { hidden: !next.simulated });
  setText(at("simulated"), next.simulated ? simulationNotice(next.dataSource) : "");

  state = next; // only now: what could not be shown does not count as news
  sinceNews = new Stopwatch();
  trouble = "";
  tick();
  for (const tile of tiles) tile.draw(nowMs);
}

function tick() {
  const lost = isLost();
  for (const tile of tiles) tile.tick({ heldMs: heldMs(), lost });
  links.tick(lost);
  if (state) alarms.show(state.alarms, state.nowMs + heldMs(), lost);
  if (state) trust.show(state, state.nowMs + heldMs(), lost);
  showConnection(lost);
  showSummary(lost);
}

function showConnection(lost) {
  setAttributes(document.documentElement, { "data-lost": lost });
  setAttributes(at("lost"), { hidden: !lost });
  const since = sinceNews.elapsedMs();
  setText(at("connection"), lost ? (state || since > LOST_MS ? "lost" : "connecting") : "live");
  if (lost) {
    const why = trouble ? ` (${trouble})` : "";
    setText(at("lost"), state
      ? `Connection to the server lost ${duration(since)} ago${why}. Nothing on this page is current: look at the patients.`
      : `Waiting for the server${why}. Nothing on this page is current.`);
  }
  if (wasLost === false && lost) setText(at("speak-now"), "Connection to the server lost. Nothing on this page is current.");
  if (wasLost && !lost) setText(at("speak"), "Connected to the server.");
  wasLost = lost;
}

function showSummary(lost) {
  const { model, round, boards } = state ?? {};
  setText(at("server-time"), lost ? "--" : clockTime(state.nowMs + sinceNews.elapsedMs()));
  setText(at("model"), lost || !model ? "--" : modelState(model));
  setAttributes(at("model"), { "data-warn": !lost && (model?.origin === "rollback" || model?.state === "withdrawn") });
  setText(at("round-now"), lost ? "--" : round ? `${count(round.number)}, ${roundPhase(round.phase)}` : "none");
  setText(at("disagreement"), lost ? "--" : disagreementText(state.disagreement));
  setAttributes(at("disagreement"), { "data-warn": !lost && state.disagreement.standing === "raised" });
  const live = tiles.filter((tile) => tile.root.dataset.state === "live").length;
  setText(at("board-count"), boards ? `${live} of ${boards.length} live` : "");
}

setInterval(tick, TICK_MS);
setInterval(() => {
  const nowMs = Date.now();
  for (const tile of tiles) tile.draw(nowMs);
}, DRAW_MS);
document.addEventListener("visibilitychange", tick); // a page that slept shows no old number, not even for a moment
tick();
feed.start();
