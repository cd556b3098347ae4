/** Codes of the state in words a nurse and an engineer both read. Unknown codes are shown as they came. */

const ALARM_KINDS = {
  asystole: "No heartbeat detected", lead_off: "Electrode off", low_spo2: "Low oxygen saturation", glucose_low: "Low glucose",
  glucose_high: "High glucose", battery_low: "Battery low", sensor_fault: "Sensor does not answer",
  apnoea: "No breathing detected", glucose_low_soon: "Glucose may fall below 70 mg/dL within 30 min (forecast)",
};
const MEASURES = {
  heart_rate: "Heart rate", pulse_rate: "Pulse", resp_rate: "Breathing", spo2: "SpO2", perfusion: "Perfusion",
  temperature: "Skin temperature", steps: "Steps", posture: "Posture", activity: "Activity", glucose: "Glucose",
  glucose_trend: "Glucose trend", resp_rate_derived: "Breathing (derived)",
  normal_beats: "Normal beats", supraventricular_beats: "Supraventricular beats", ventricular_beats: "Ventricular beats",
  fusion_beats: "Fusion beats", ecg_quality: "ECG usable", activity_class: "Activity (model)",
  glucose_in_30_min: "Glucose in 30 min", hypoglycaemia_within_30_min: "Low glucose within 30 min",
};
const UNITS = { Cel: "\u00B0C" }; // UCUM codes that are not how a ward writes them
const WHY_UNKNOWN = {
  no_data: "no data yet", lead_off: "electrode off", poor_signal: "poor signal", settling: "settling", sensor_fault: "sensor fault",
  motion: "too much motion", stale: "no current value",
};
const PRIORITIES = { high: "High priority", medium: "Medium priority", low: "Low priority", technical: "Technical" };
const BEATS = { N: "normal", S: "supraventricular", V: "ventricular", F: "fusion", Q: "unknown" };
const PARTS = { T: "ST-T", baseline: "rest" }; // of a beat, where a ward says it otherwise than the model
const KEY_SOURCES = { qkd: "QKD", ratchet: "ratchet", none: "no key" };
const PHASES = { idle: "waiting", ready: "asking who is there", collect: "collecting", settle: "summing" };
const ROUND_STATES = { running: "running", done: "done", void: "void" };

// The server's and the gateways' own words for why a cell gives no sum (conductor.py, opening.py, domain/rounds.py).
const VOID_REASONS = [
  [/\b(small|too few|min_group)\b|\bpatients?,/i, "too few patients: nothing is opened below the smallest group"],
  [/\b(silent|until the deadline|incomplete|time[d ]?out|no partial|no count|missing)\b/i, "a gateway did not answer in time: its cell is not summed a second time"],
  [/\b(check|forged|altered)\b/i, "the check value does not fit: the sum was altered"],
  [/\bno key with\b/i, "a gateway lacks a key or certificate of another one"],
  [/\bn_max\b/i, "more boards than the sum has room for"],
  [/\b(range|overflow|beyond)\b/i, "the sum lies outside what is possible"],
  [/\b(repeated|replay|twice)\b/i, "the same data was offered twice"],
  [/\bcertificate\b/i, "a member has no valid certificate"],
  [/\b(signature|mac|seal)\b/i, "a message was not authentic"],
  [/\brestart(ed)?\b/i, "a party restarted while the round ran"],
];

const REFUSALS = {
  mac: "not authentic", seal: "not authentic", signature: "bad signature", replay: "replayed", truncated: "cut short",
  length: "wrong length", magic: "not ours", version: "unknown version", suite: "unknown cipher suite", type: "unknown type",
  board: "wrong board", epoch: "wrong key epoch", key: "no key", session: "no session", schema: "malformed", payload: "malformed",
  certificate: "no valid certificate", consent: "no consent", stream: "wrong stream", shape: "wrong shape", identity: "wrong identity",
  sender: "wrong sender", check: "check value does not fit", downgrade: "older than what is held", quantizer: "quantizer does not agree",
  model: "wrong model", cells: "bad cells", boots: "another boot", pad_used: "one-time bytes used before",
  pad_unknown: "one-time block not held", pad_board: "one-time block of another board", one_time_mac: "one-time MAC does not hold",
};

const PURPOSES = { statistics: "Statistics", learning: "Learning", care: "Care" };
const THREATS = { normal: "normal", elevated: "elevated: an alarm lately", high: "high: signs of an attack" };
const STAGES = { canary: "with one board first", ward: "with all boards", withdrawn: "withdrawn: boards failed with it", refused: "refused" };

const MODEL_STATES = { prepared: "on its way to the boards", canary: "with one board first", released: "with all boards", withdrawn: "withdrawn" };
const MODEL_ORIGINS = { rollback: "rolled back", pushed: "released by a person" };

const own = (table, code) => (Object.hasOwn(table, code) ? table[code] : null);
const plain = (code) => code.replaceAll("_", " ");

export const alarmKind = (code) => own(ALARM_KINDS, code) ?? (plain(code) || "Alarm of unknown kind");
export const measureName = (code) => own(MEASURES, code) ?? (plain(code) || "Unknown measure");
export const unitName = (code) => own(UNITS, code) ?? code;
export const whyUnknown = (code) => own(WHY_UNKNOWN, code) ?? (plain(code) || "unknown");
export const alarmPriority = (code) => own(PRIORITIES, code) ?? (plain(code) || "Unknown priority");
export const beatName = (code) => own(BEATS, code) ?? "unknown";
export const partName = (code) => own(PARTS, code) ?? code;
export const keySource = (code) => own(KEY_SOURCES, code) ?? (code || "unknown");
export const roundPhase = (code) => own(PHASES, code) ?? plain(code);
export const roundState = (code) => own(ROUND_STATES, code) ?? plain(code);
export const refusal = (code) => own(REFUSALS, code) ?? plain(code);
export const purposeName = (code) => own(PURPOSES, code) ?? plain(code);
export const threat = (code) => own(THREATS, code) ?? (plain(code) || "unknown");
export const share = (part) => `${Math.floor(1000 * part) / 10} %`; // never more than there is
export const percent = (part) => `${Math.round(100 * part)}\u00a0%`;
export const days = (ms) => `${Math.round(ms / 86400000)} days`;

/** How far a release has come: "v7: with one board first (0000000a), 1 failed". */
export function rolloutState({ version, stage, canary, failed, reason }) {
  const where = `v${version ?? "--"}: ${own(STAGES, stage) ?? (plain(stage) || "unknown")}`;
  return `${where}${stage === "canary" && canary ? ` (${canary})` : ""}${failed ? `, ${failed} failed` : ""}${reason ? `, ${reason}` : ""}`;
}

/** The ward's model: "v8, rolled back: version 7: 3 boards do not bear it; with one board first". */
export function modelState({ version, roundsTrained, state, origin, reason }) {
  const parts = [own(MODEL_ORIGINS, origin), roundsTrained === null ? null : `trained on ${count(roundsTrained)} rounds`, own(MODEL_STATES, state)];
  const said = [`v${version ?? "--"}`, ...parts].filter(Boolean).join(", ");
  return reason ? `${said}. ${reason}` : said;
}

export const linkState = (code) => plain(code) || "unknown";

/** Why there is no sum, as a sentence, with the words of the one who refused in parentheses. */
export function voidReason(code) {
  if (!code) return "no reason given";
  const known = VOID_REASONS.find(([pattern]) => pattern.test(code));
  return known ? `${known[1]} (${plain(code)})` : plain(code);
}

/** Percentage points with their sign: "+48", "\u221212", "0". */
export function points(value) {
  const whole = Math.round(Math.abs(value));
  return whole === 0 ? "0" : `${value < 0 ? "\u2212" : "+"}${whole}`;
}

/** Whether boards' model answers otherwise than the gateways' about the same beats, by the server's monitor. */
export function disagreementText({ standing, boards, version, score, limit, sinceMs }) {
  const by = boards === null ? "" : ` (${count(boards)} ${boards === 1 ? "board" : "boards"} compared)`;
  const figure = score === null || limit === null ? "" : `, score ${count(score)} of ${count(limit)}`;
  if (standing === "usual") return `as usual${by}`;
  if (standing === "watched") return `v${version ?? "--"} is new: nothing unusual so far in its first hour${figure}${by}`;
  if (standing === "raised") return `unusual: v${version ?? "--"} answers otherwise than the gateways' model since ${clockTime(sinceMs)}${figure}${by}`;
  return `unknown${by}: it takes 8 boards under consent and an hour of the version before`;
}

/** An age or duration: "3 s", "4 min", "2 h". */
export function duration(ms) {
  if (ms === null || !Number.isFinite(ms)) return "unknown";
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

const counts = new Intl.NumberFormat("en-GB");
export const count = (value) => (value === null ? "--" : counts.format(value));
export const clockTime = (ms) => (ms === null ? "--" : new Date(ms).toLocaleTimeString("en-GB"));

/** What a histogram bin covers, in bpm; its place where the edges do not fit the bins. */
export function binName(index, bins, edges) {
  if (edges.length !== bins - 1) return `bin ${index + 1}`;
  if (index === 0) return `below ${edges[0]}`;
  if (index === bins - 1) return `${edges[index - 1]} and up`;
  return `${edges[index - 1]}-${edges[index] - 1}`;
}

/** The banner of a simulated ward: it never calls synthetic heartbeats real. */
export function simulationNotice(dataSource) {
  const source = dataSource || "not stated";
  return /synthetic|ecgsyn/i.test(source)
    ? `Simulated ward: synthetic heartbeats, no real people (source ${source}), virtual optical link`
    : `Simulated ward: recordings of real people (source ${source}), virtual optical link`;
}
