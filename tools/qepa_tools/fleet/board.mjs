// One virtual board, the whole of a worker thread: interpreter, peripherals, sampling clock.
import { parentPort, workerData } from 'node:worker_threads';
import { BoardConsole } from './console.mjs';
import { cryptoFunctions } from './crypto.mjs';
import { lineSplitter, startInterpreter } from './interpreter.mjs';
import { FEEDS, Sampler, WATCHDOG_MS } from './sampler.mjs';
import { socketFunctions } from './sockets.mjs';

const { board, cause, ecg, index, slots, ward } = workerData;
const send = (event) => parentPort.postMessage(event);
const never = new Int32Array(new SharedArrayBuffer(4));
const sampler = new Sampler({ ward, slots, ecg, index });

let printed = null; // while a command executes, what it prints
const log = lineSplitter((line) => send({ event: 'log', line }));
const terminal = workerData.console ? new BoardConsole(send) : null;
const write = (bytes) => (printed ?? terminal ?? log).write(bytes);

let mp = null;
let wakeUp = null;
function host(memory) {
  let bytes = new Uint8Array(memory.buffer);
  const view = () => (bytes.buffer === memory.buffer ? bytes : (bytes = new Uint8Array(memory.buffer)));
  return {
    ...cryptoFunctions(view),
    ...socketFunctions(view),
    unique_id: () => board,
    reset_cause: () => cause,
    record_rate: () => sampler.fs,
    reset() {
      send({ event: 'reset' });
      Atomics.wait(never, 0, 0); // the main thread ends this one
    },
    sleep_ms: (ms) => void Atomics.wait(never, 0, 0, ms),
    lead_off: () => (sampler.leadOff ? 1 : 0),
    sampling: (address, length, running) => {
      if (!sampler.burst) {
        const burst = mp.pyimport('machine')._burst;
        sampler.attach(() => new Uint16Array(memory.buffer, address, length), (count) => burst(count));
      }
      sampler.run(running, length);
    },
    watchdog(timeoutMs) {
      Atomics.store(slots, WATCHDOG_MS, timeoutMs);
      Atomics.add(slots, FEEDS, 1);
    },
    feed: (total) => sampler.feed(total),
    wake_in(ms) {
      wakeUp?.();
      if (ms <= 0) {
        const immediate = setImmediate(runTasks);
        wakeUp = () => clearImmediate(immediate);
      } else {
        const timeout = setTimeout(runTasks, ms);
        wakeUp = () => clearTimeout(timeout);
      }
    },
    ...terminal?.hostFunctions(view, never),
    radio: () => workerData.radio ?? '',
    probe: (json) => send({ event: 'probe', json }),
    failed: (traceback) => send({ event: 'error', traceback }),
  };
}

let taskLoop = null;
function runTasks() {
  wakeUp = null;
  taskLoop ??= mp.pyimport('_board').run_tasks;
  taskLoop();
}

function execute(id, code) {
  const chunks = [];
  let error = null;
  printed = { write: (bytes) => chunks.push(Buffer.from(bytes)) };
  try {
    mp.runPython(code);
  } catch (raised) {
    error = String(raised.message ?? raised);
  }
  printed = null;
  send({ event: 'executed', id, out: Buffer.concat(chunks).toString(), error });
}

function runMain(source) {
  try {
    mp.runPython(source);
  } catch (raised) {
    send({ event: 'error', traceback: String(raised.message ?? raised) });
  }
}

({ mp } = await startInterpreter({ ...workerData, host, write }));
send({ event: 'boot', ecg_index: index, cause });
parentPort.on('message', ({ op, id, code, on, data }) => {
  if (op === 'exec') execute(id, code);
  else if (op === 'type') terminal.type(data);
  else if (op === 'lead_off') sampler.leadOff = on;
});
if (workerData.probe) runMain(`exec(${JSON.stringify(workerData.probe)}, {"__name__": "_probe"})`);
if (typeof workerData.main === 'string') {
  runMain(workerData.main);
} else {
  for (const name of workerData.raw ? ['/flash/boot.py'] : ['/flash/boot.py', '/flash/main.py']) {
    if (mp.FS.analyzePath(name).exists) runMain(mp.FS.readFile(name, { encoding: 'utf8' }));
  }
}
terminal?.open(mp, Boolean(workerData.raw), () => {
  wakeUp?.();
  wakeUp = null;
});
