"use strict";
// Runs Perfetto's trace processor, which comes as WebAssembly for a browser's worker, in node: loads a trace, then answers
// the queries of perfetto's Python package over a Unix socket. Both sides speak the same stream of bytes, which only
// passes through here (TraceProcessorRpcStream in protos/perfetto/trace_processor/trace_processor.proto).
//
// usage: node trace_processor.js ENGINE.js ENGINE.wasm TRACE SOCKET
const fs = require("fs");
const net = require("net");
const vm = require("vm");

const [engine, wasm, trace, socket] = process.argv.slice(2);
const CHUNK_BYTES = 16 << 20;
const APPEND_TRACE_DATA = 1, FINALIZE_TRACE_DATA = 2;

// What the engine expects of a worker: to read a file by its address, and to be told of messages.
class FileRequest {
  open() {}
  send() {
    this.response = fs.readFileSync(wasm);
  }
}
// The engine asks for 64 bits with a module that begins with its memory; only the one of 32 bits was published.
const Module = WebAssembly.Module;
WebAssembly.Module = function (bytes) {
  const MEMORY_SECTION = 5;
  if (bytes[8] === MEMORY_SECTION) throw new WebAssembly.CompileError("32 bits only");
  return new Module(bytes);
};
Object.assign(globalThis, { self: globalThis, WorkerGlobalScope: Object, location: { href: "" }, XMLHttpRequest: FileRequest });
console.warn = () => {};
vm.runInThisContext(fs.readFileSync(engine, "utf8"), { filename: engine });

let client = null;
const port = { postMessage: (bytes) => client?.write(bytes) };
self.onmessage({ data: port });

const tell = (bytes) => port.onmessage({ data: new Uint8Array(bytes) });

function varint(value) {
  const out = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return Buffer.from([...out, value]);
}

const message = (field, bytes) => Buffer.concat([varint((field << 3) | 2), varint(bytes.length), bytes]);
const request = (method, ...parts) => message(1, Buffer.concat([Buffer.from([2 << 3, method]), ...parts]));

// The engine is ready when the promises that it made while it was loaded have been kept.
setImmediate(() => {
  const file = fs.openSync(trace);
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (let n; (n = fs.readSync(file, chunk)) > 0; ) tell(request(APPEND_TRACE_DATA, message(101, chunk.subarray(0, n))));
  tell(request(FINALIZE_TRACE_DATA));
  const server = net.createServer((connection) => {
    client = connection;
    connection.on("data", tell);
  });
  server.listen(socket, () => console.log("ready"));
});
