// Many virtual boards in one process, a worker thread each, under JSON lines on stdin and stdout (see fleet.py for the
// protocol). This thread keeps the ward's clock: it runs at the asked speed and waits for the slowest healthy board.
import readline from 'node:readline';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { compileInterpreter } from './interpreter.mjs';
import {
  BOARD_SLOTS, DELIVERED, FEEDS, POSITION_MS, RUNNING, SPEED_PERMILLE, WARD_MS, WATCHDOG_MS,
} from './sampler.mjs';

const POWER_ON = 1, HARD_RESET = 2, WATCHDOG_RESET = 3, SOFT_RESET = 5; // machine.reset_cause() of an ESP32
const CLOCK_MS = 20;
const AHEAD_MS = 500; // the clock waits for a board that is further behind than this,
const STALLED_MS = 2000; // unless it has not fed its watchdog for this long
// A watchdog counts real time; this machine may run 60 boards where each has a chip to itself.
const WATCHDOG_STRETCH = 10;
const LIMITS = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 };

const runtimeDir = process.argv[2];
const HERE = path.dirname(fileURLToPath(import.meta.url));
const compiled = await compileInterpreter(runtimeDir);
const emit = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const ward = new Int32Array(new SharedArrayBuffer(8));
const boards = new Map(); // running
const people = new Map(); // board -> {key, index, sinceMs}: whose ECG goes on while a board is down
let speed = 1;
let wardMs = 0;

function recordIndex(spec) {
  if (!spec.ecg) return 0;
  const key = `${spec.ecg.path}\n${spec.ecg.index ?? 0}`;
  if (people.get(spec.board)?.key !== key) people.set(spec.board, { key, index: spec.ecg.index ?? 0, sinceMs: wardMs });
  const person = people.get(spec.board);
  const length = Math.floor(fs.statSync(spec.ecg.path).size / 2);
  if (!length) throw new Error(`${spec.ecg.path} holds no samples`);
  return (person.index + Math.floor(((wardMs - person.sinceMs) * spec.ecg.fs) / 1000)) % length;
}

function setSpeed(asked) {
  speed = asked;
  Atomics.store(ward, SPEED_PERMILLE, Math.round(speed * 1000));
}

function start(spec, cause = POWER_ON) {
  if (boards.has(spec.board)) throw new Error(`board ${spec.board} is already running`);
  if (spec.speed) setSpeed(spec.speed);
  const slots = new Int32Array(new SharedArrayBuffer(4 * BOARD_SLOTS));
  const main = spec.main?.endsWith('.py') && !spec.main.includes('\n') ? fs.readFileSync(spec.main, 'utf8') : spec.main;
  const worker = new Worker(path.join(HERE, 'board.mjs'), {
    resourceLimits: LIMITS,
    env: {},
    workerData: {
      runtimeDir, compiled, board: spec.board, flash: spec.flash, packages: spec.firmware ?? [], main,
      probe: spec.probe, console: spec.console, raw: spec.raw, ecg: spec.ecg, index: recordIndex(spec), cause, ward, slots,
      radio: spec.radio,
    },
  });
  const entry = { spec, worker, slots, feeds: -1, fedMs: performance.now(), ending: null };
  boards.set(spec.board, entry);
  worker.on('message', (event) => {
    if (event.event === 'reset') end(spec.board, 'reset', HARD_RESET);
    else if (event.event === 'soft_reset') end(spec.board, 'reset', SOFT_RESET, { ...spec, raw: event.raw });
    else if (event.event === 'probe') emit({ event: 'probe', board: spec.board, payload: JSON.parse(event.json) });
    else if (!entry.ending) emit({ board: spec.board, ...event });
  });
  worker.on('error', (error) => (entry.crash = `crash: ${error.message}`));
  worker.on('exit', () => {
    boards.delete(spec.board);
    const { reason, restart, next } = entry.ending ?? { reason: entry.crash ?? 'crash: interpreter stopped' };
    emit({ event: 'exit', board: spec.board, reason });
    if (restart) start(next, restart);
  });
}

function end(board, reason, restart = null, next = null) {
  const entry = boards.get(board);
  if (!entry) throw new Error(`board ${board} is not running`);
  if (entry.ending?.reason !== 'killed') {
    entry.ending = { reason, restart, next: next ?? { ...entry.spec, raw: false } };
  }
  return entry.worker.terminate();
}

function tell(board, message) {
  const entry = boards.get(board);
  if (!entry) throw new Error(`board ${board} is not running`);
  entry.worker.postMessage(message);
}

async function stop() {
  await Promise.all([...boards.keys()].map((board) => end(board, 'stopped')));
  process.stdout.write(`${JSON.stringify({ event: 'stopped' })}\n`, () => process.exit(0));
}

const operations = {
  start: (command) => start(command),
  kill: ({ board }) => void end(board, 'killed'),
  exec: ({ board, id, code }) => tell(board, { op: 'exec', id, code }),
  type: ({ board, data }) => tell(board, { op: 'type', data }),
  lead_off: ({ board, on }) => tell(board, { op: 'lead_off', on }),
  stop,
};

let lastTick = performance.now();
function advanceClock() {
  const now = performance.now();
  let next = wardMs + (now - lastTick) * speed;
  lastTick = now;
  for (const [board, entry] of boards) {
    const feeds = Atomics.load(entry.slots, FEEDS);
    const running = Atomics.load(entry.slots, RUNNING);
    const watchdogMs = Atomics.load(entry.slots, WATCHDOG_MS);
    if (feeds !== entry.feeds || !(running || watchdogMs)) Object.assign(entry, { feeds, fedMs: now });
    const silentMs = now - entry.fedMs;
    if (running && silentMs < STALLED_MS) next = Math.min(next, Atomics.load(entry.slots, POSITION_MS) + AHEAD_MS);
    if (watchdogMs && silentMs > watchdogMs * WATCHDOG_STRETCH && !entry.ending) {
      end(board, 'watchdog', WATCHDOG_RESET);
    }
  }
  wardMs = Math.max(wardMs, next);
  Atomics.store(ward, WARD_MS, Math.floor(wardMs));
}

let paceFrom = { now: performance.now(), wardMs: 0 };
function reportPace() {
  advanceClock();
  const now = performance.now();
  const real = (wardMs - paceFrom.wardMs) / (now - paceFrom.now);
  paceFrom = { now, wardMs };
  const delivered = Object.fromEntries([...boards].map(([id, { slots }]) => [id, Atomics.load(slots, DELIVERED)]));
  emit({ event: 'pace', asked: speed, real: +real.toFixed(3), lagging: real < speed * 0.98, boards: delivered });
}

setSpeed(speed);
setInterval(advanceClock, CLOCK_MS);
setInterval(reportPace, 1000);
readline
  .createInterface({ input: process.stdin })
  .on('line', async (line) => {
    let command = {};
    try {
      command = JSON.parse(line);
      if (!Object.hasOwn(operations, command.op)) throw new Error(`unknown operation ${command.op}`);
      await operations[command.op](command);
    } catch (error) {
      emit({ event: 'refused', op: command.op, board: command.board, id: command.id, message: error.message });
    }
  })
  .on('close', () => process.exit(0));
emit({ event: 'ready' });
