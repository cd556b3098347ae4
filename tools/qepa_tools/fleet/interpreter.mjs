// One MicroPython interpreter in this JavaScript realm: flash, read-only packages and the `_host` module in place.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { mountFlash } from './flash.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PACKAGE = 'node_modules/@micropython/micropython-webassembly-pyscript';
const HEAP_BYTES = 192 * 1024; // what an ESP32 without PSRAM leaves to MicroPython, about

export async function compileInterpreter(runtimeDir) {
  return WebAssembly.compile(fs.readFileSync(path.join(runtimeDir, PACKAGE, 'micropython.wasm')));
}

// Splits what the interpreter prints into lines; a partial line waits for its end or for flush().
export function lineSplitter(emit) {
  const decoder = new TextDecoder();
  let partial = '';
  const write = (bytes) => {
    const lines = (partial + decoder.decode(bytes, { stream: true })).split('\n');
    partial = lines.pop();
    lines.forEach((line) => emit(line.replace(/\r$/, '')));
  };
  const flush = () => {
    if (partial) emit(partial);
    partial = '';
  };
  return { write, flush };
}

// Returns {mp, memory}. `host(memory)` builds the functions of the Python module `_host`; `flash` is a host
// directory, or null for a flash that forgets. `packages` are directories that appear read-only under /lib.
export async function startInterpreter({ runtimeDir, compiled, host, flash, packages, write }) {
  let memory = null;
  // The package neither takes a compiled module nor exports its memory: both pass through this one call.
  WebAssembly.instantiate = async (_bytes, imports) => {
    const instance = new WebAssembly.Instance(compiled, imports);
    memory = Object.values(instance.exports).find((item) => item instanceof WebAssembly.Memory);
    return { module: compiled, instance };
  };
  const { loadMicroPython } = await import(pathToFileURL(path.join(runtimeDir, PACKAGE, 'micropython.mjs')).href);
  const mp = await loadMicroPython({
    heapsize: HEAP_BYTES,
    linebuffer: false,
    stdout: write,
    stderr: write,
    url: path.join(HERE, 'package.json'), // read and thrown away, because `compiled` is used: so let it be small
  });
  copyTree(mp.FS, path.join(HERE, 'shims'), '/rom/shims');
  copyTree(mp.FS, path.join(HERE, '..', 'chips'), '/rom/shims/chips');
  copyTree(mp.FS, path.join(HERE, '..', 'air', 'shims'), '/rom/shims');
  mp.FS.writeFile('/rom/shims/console.py', fs.readFileSync(path.join(HERE, '..', 'unix_port', 'console.py')));
  mp.FS.mkdirTree('/rom/lib');
  for (const dir of packages) copyTree(mp.FS, dir, `/rom/lib/${path.basename(dir)}`);
  mountFlash(mp.FS, '/flash', flash);
  mp.registerJsModule('_host', host(memory));
  mp.runPython("import sys; sys.path.insert(0, '/rom/shims'); import _board; _board.set_up()");
  return { mp, memory };
}

function copyTree(FS, from, to) {
  FS.mkdirTree(to);
  for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
    const source = path.join(from, entry.name);
    if (entry.isDirectory()) {
      if (entry.name !== '__pycache__') copyTree(FS, source, `${to}/${entry.name}`);
    } else {
      FS.writeFile(`${to}/${entry.name}`, fs.readFileSync(source));
    }
  }
}
