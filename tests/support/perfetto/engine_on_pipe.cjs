// Runs Perfetto's trace processor (WebAssembly) in Node: its RPC bytes come on stdin, its replies go to stdout.
// Usage: node engine_on_pipe.cjs FOLDER, which has trace_processor.wasm and the engine_bundle.node.js made for it.

"use strict";
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");
const { pathToFileURL } = require("node:url");

const folder = path.resolve(process.argv[2]);
console.log = console.warn = console.error; // stdout is for replies

// The bundle is made for a browser's worker: it looks for these, and keeps its bridge to itself.
const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
define("self", globalThis);
define("WorkerGlobalScope", function () {});
define("location", { href: `${pathToFileURL(folder).href}/` });
define("engineBytes", new Uint8Array(fs.readFileSync(path.join(folder, "trace_processor.wasm"))));

let source = fs.readFileSync(path.join(folder, "engine_bundle.node.js"), "utf8");
for (const [from, to] of [
  ["hasMemory64Support();", "false;"],
  ["locateFile: (s) => s,", "locateFile: (s) => s, wasmBinary: globalThis.engineBytes,"],
  ["const wasmBridge =", "const wasmBridge = globalThis.wasmBridge ="],
]) {
  if (!source.includes(from)) throw new Error(`engine_bundle.node.js has no ${from}`);
  source = source.replace(from, to);
}
vm.runInThisContext(source, { filename: "engine_bundle.node.js" });

const bridge = globalThis.wasmBridge;
const port = { postMessage: (bytes) => process.stdout.write(Buffer.from(bytes)) };
bridge.initialize(port);
const whenReady = () => {
  if (!bridge.reqBufferAddr) return setTimeout(whenReady, 10);
  process.stdin.on("data", (bytes) => port.onmessage({ data: new Uint8Array(bytes) }));
  process.stdin.on("end", () => process.exit(0));
};
whenReady();
