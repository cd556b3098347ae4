/**
 * The server's state as this page trusts it: every field checked, anything odd replaced by "not known".
 * `parseState` returns a state or throws StateError, nothing else.
 */

export class StateError extends Error {}

const record = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : null);
const list = (value) => (Array.isArray(value) ? value.filter((item) => record(item)) : []);
const text = (value) => (typeof value === "string" || typeof value === "number" ? String(value) : "");
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
const within = (value, low, high) => (number(value) !== null && value >= low && value <= high ? value : null);

/** One entry per key: a board or alarm reported twice must not be two tiles. The first (the newest) counts. */
function distinct(items, key) {
  return [...new Map(items.toReversed().map((item) => [item[key], item])).values()].reverse();
}

function parseMeasure(measure) {
  const word = typeof measure.value === "string" ? measure.value : null;
  return {
    code: number(measure.code),
    name: text(measure.name),
    unit: text(measure.unit),
    value: word ?? number(measure.value),
    qualityPercent: within(measure.quality_percent, 0, 100),
    reason: text(measure.reason),
    note: text(measure.note),
  };
}

function parseVitals(value) {
  const vitals = record(value);
  if (!vitals) return null;
  return {
    hrBpm: within(vitals.hr_bpm, 0, 400),
    qualityPercent: within(vitals.quality_percent, 0, 100),
    leadOff: vitals.lead_off === true,
    asystole: vitals.asystole === true,
    beatClass: text(vitals.beat_class),
    beats: number(vitals.beats),
    measures: distinct(list(vitals.measures).map(parseMeasure), "code"),
    ageMs: within(vitals.age_ms, 0, Infinity) ?? Infinity, // an age that is not known is too old
  };
}

/** What one model at a gateway found. */
function parseFinding(finding) {
  return {
    source: text(finding.source),
    readings: distinct(list(finding.readings).map(parseMeasure), "code"),
    ageMs: within(finding.age_ms, 0, Infinity) ?? Infinity,
  };
}

/** That there is an explained beat; null where it is not known which, or how old it is. */
function parseExplained(value) {
  const explained = record(value);
  const sound = explained && number(explained.number) !== null && /^[SVF]$/.test(text(explained.beat)) && within(explained.age_ms, 0, Infinity) !== null;
  return sound ? { number: explained.number, beat: explained.beat, ageMs: explained.age_ms } : null;
}

function parseDisagreement(value) {
  const told = record(value) ?? {};
  return {
    standing: text(told.standing),
    boards: number(told.boards),
    version: number(told.version),
    score: number(told.score),
    limit: number(told.limit),
    sinceMs: number(told.since_ms),
  };
}

function parseBoard(board) {
  return {
    board: text(board.board),
    patient: text(board.patient),
    gateway: text(board.gateway),
    online: board.online === true,
    lastSeenMs: number(board.last_seen_ms),
    epoch: number(board.epoch),
    keySource: text(board.key_source),
    pads: number(board.pads),
    modelVersion: number(board.model_version),
    mode: text(board.mode),
    padBytes: number(board.pad_bytes),
    consent: board.consent === true,
    vitals: board.consent === true ? parseVitals(board.vitals) : null, // without consent nothing is even held
    findings: board.consent === true ? distinct(list(board.findings).map(parseFinding), "source") : [],
    explained: board.consent === true ? parseExplained(board.explained) : null,
  };
}

function parseHeartRate(value) {
  const rate = record(value);
  if (!rate) return null;
  return {
    boards: number(rate.boards),
    meanBpm: number(rate.mean_bpm),
    sdBpm: number(rate.sd_bpm),
    histogram: Array.isArray(rate.histogram) ? rate.histogram.map((count) => number(count) ?? 0) : [],
    edges: Array.isArray(rate.edges_bpm) ? rate.edges_bpm.map((edge) => number(edge) ?? 0) : [],
  };
}

function parseRound(round) {
  return {
    number: number(round.number),
    state: text(round.state),
    reason: text(round.reason),
    contributors: countOf(round.contributors),
    patients: countOf(round.patients),
    cells: list(round.cells).map((cell) => ({
      id: text(cell.id),
      gateways: Array.isArray(cell.gateways) ? cell.gateways.map(text) : [],
      state: text(cell.state),
      reason: text(cell.reason),
    })),
    heartRate: parseHeartRate(round.heart_rate),
    latencyMs: number(round.latency_ms),
    modelVersion: number(round.model_version),
  };
}

const countOf = (value) => (Array.isArray(value) ? value.length : number(value));

function parseLink(value) {
  const link = record(value);
  if (!link) return null;
  return {
    state: text(link.state),
    qber: within(link.qber, 0, 1), // a fraction
    storedKeys: number(link.stored_keys),
    bitsProduced: number(link.bits_produced),
    bitsConsumed: number(link.bits_consumed),
    threatLevel: text(link.threat_level),
    rekeyS: within(link.rekey_s, 0, Infinity),
  };
}

function parseRollout(rollout) {
  return {
    kind: text(rollout.kind),
    version: number(rollout.version),
    stage: text(rollout.stage),
    canary: text(rollout.canary),
    failed: number(rollout.failed) ?? 0,
    reason: text(rollout.reason),
  };
}

function parseQuarantine(held) {
  return {
    kind: text(held.kind),
    name: text(held.name),
    sinceMs: number(held.since_ms),
    round: number(held.round),
    sentence: text(held.sentence),
  };
}

function parseStanding(value) {
  const standing = record(value);
  return standing && { spentEpsilon: within(standing.spent_epsilon, 0, Infinity), left: within(standing.left, 0, 1) };
}

function parsePrivacy(row) {
  return {
    purpose: text(row.purpose),
    noise: row.noise === true, // in doubt there is none
    budgetEpsilon: number(row.budget_epsilon),
    delta: number(row.delta),
    periodMs: number(row.period_ms),
    worst: parseStanding(row.worst),
    median: parseStanding(row.median),
  };
}

function parseAudit(value) {
  const audit = record(value) ?? {};
  const table = (entries, parse) => Object.fromEntries(Object.entries(record(entries) ?? {}).map(([name, each]) => [name, parse(each)]));
  return {
    entries: number(audit.entries),
    kept: table(audit.kept, number),
    contradicted: table(audit.contradicted, number),
    refused: table(audit.refused, text),
  };
}

function parseRefused(value) {
  return Object.entries(record(value) ?? {}).filter(([, count]) => number(count) !== null && count > 0).sort((a, b) => b[1] - a[1]);
}

function parseGateway(gateway) {
  return {
    name: text(gateway.name),
    online: gateway.online === true,
    lastSeenMs: number(gateway.last_seen_ms),
    link: parseLink(gateway.link),
    refused: parseRefused(gateway.refused),
    spool: number(gateway.spool),
    rollouts: distinct(list(gateway.rollouts).map(parseRollout), "kind"),
  };
}

function parseAlarm(alarm) {
  return {
    id: text(alarm.id),
    board: text(alarm.board),
    patient: text(alarm.patient),
    kind: text(alarm.kind),
    priority: text(alarm.priority),
    active: alarm.active !== false, // in doubt it is active
    acknowledged: alarm.acknowledged === true,
    sinceMs: number(alarm.since_ms),
    endedMs: number(alarm.ended_ms),
  };
}

/** @param {string} body JSON as `GET /api/state` gives it. */
export function parseState(body) {
  let value;
  try {
    value = JSON.parse(body);
  } catch {
    throw new StateError("the server's answer is not JSON");
  }
  if (!record(value)) throw new StateError("the server's answer is not a state");
  if (number(value.now_ms) === null) throw new StateError("the server's state carries no time");
  if (!Array.isArray(value.boards) || !Array.isArray(value.alarms)) throw new StateError("the server's state has no boards or no alarms");
  const model = record(value.model);
  const round = record(value.round);
  return {
    nowMs: value.now_ms,
    simulated: value.simulated === true,
    dataSource: text(value.data_source),
    model: model && {
      version: number(model.version), roundsTrained: number(model.rounds_trained),
      state: text(model.state), origin: text(model.origin), reason: text(model.reason),
    },
    disagreement: parseDisagreement(value.disagreement),
    round: round && { number: number(round.number), phase: text(round.phase), sinceMs: number(round.since_ms) },
    rounds: distinct(list(value.rounds).map(parseRound), "number"),
    boards: distinct(list(value.boards).map(parseBoard), "board"),
    gateways: distinct(list(value.gateways).map(parseGateway), "name"),
    alarms: distinct(list(value.alarms).map(parseAlarm), "id"),
    quarantines: list(value.quarantines).map(parseQuarantine),
    notAskedFor: Array.isArray(value.not_asked_for) ? [...new Set(value.not_asked_for.map(text))] : [],
    privacy: distinct(list(value.privacy).map(parsePrivacy), "purpose"),
    audit: parseAudit(value.audit),
    refused: parseRefused(value.refused),
  };
}
