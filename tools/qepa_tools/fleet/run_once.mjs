// Runs one Python source on a fresh interpreter. stdin: JSON {source, files: {path: base64}, packages: [dir]};
// stdout: what it prints; exit status 1 and the traceback on stderr if it raises.
import fs from 'node:fs';
import { cryptoFunctions } from './crypto.mjs';
import { compileInterpreter, startInterpreter } from './interpreter.mjs';

const runtimeDir = process.argv[2];
const { source, files, packages } = JSON.parse(fs.readFileSync(0, 'utf8'));

let mp = null;
let taskLoop = null;
const fail = (text) => {
  process.stderr.write(`${text}\n`);
  process.exitCode = 1;
};
const host = (memory) => ({
  ...cryptoFunctions(() => new Uint8Array(memory.buffer)),
  unique_id: () => '00000000',
  reset_cause: () => 1,
  record_rate: () => 360,
  sleep_ms: (ms) => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms),
  wake_in: (ms) => void setTimeout(() => (taskLoop ??= mp.pyimport('_board').run_tasks)(), ms),
  failed: fail,
});

({ mp } = await startInterpreter({
  runtimeDir, compiled: await compileInterpreter(runtimeDir), host, flash: null, packages,
  write: (bytes) => process.stdout.write(Buffer.from(bytes)),
}));
for (const [name, content] of Object.entries(files)) {
  const target = `/flash/${name}`;
  mp.FS.mkdirTree(target.slice(0, target.lastIndexOf('/')));
  mp.FS.writeFile(target, Buffer.from(content, 'base64'));
}
try {
  mp.runPython(source);
} catch (error) {
  fail(error.message);
}
