// Perspective's client over a WebSocket. The only file that knows where the wheel's browser module keeps the client.

import "./disk.js"; // first

import { ready } from "../perspective/perspective.js";

const OPENS_MS = 5000; // the longest wait for the WebSocket to open

const style = document.createElement("link");
Object.assign(style, {
  rel: "stylesheet",
  crossOrigin: "anonymous",
  href: new URL("../perspective/perspective.css", import.meta.url).href,
});
document.head.append(style);
await Promise.all([
  ready,
  new Promise((done, failed) => {
    style.onload = done;
    style.onerror = () => failed(new Error(`no ${style.href}`));
  }),
]);

/** The WebSocket, open; an Error with its close code (0 when it took too long) otherwise. */
function open(url) {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  return new Promise((done, failed) => {
    const fail = (code) => {
      clearTimeout(timer);
      socket.onopen = socket.onclose = null;
      socket.close();
      failed(Object.assign(new Error(`${url} does not open`), { code }));
    };
    const timer = setTimeout(fail, OPENS_MS, 0);
    socket.onclose = ({ code }) => fail(code);
    socket.onopen = () => {
      clearTimeout(timer);
      done(socket);
    };
  });
}

/**
 * A client of the tables hosted at `url`, as "ws://localhost:8080/websocket".
 *
 * It has what Perspective's own clients have, and besides: `closed`, a promise of {code, reason}, and `heardAt`, when
 * the last message came (performance.now()). It does not reconnect.
 */
export async function websocket(url) {
  const socket = await open(url);
  const { Client } = customElements.get("perspective-viewer").__wasm_module__;
  const send = async (bytes) => {
    if (socket.readyState !== WebSocket.OPEN) throw new Error("The connection is closed");
    socket.send(bytes.slice()); // a copy: the memory is WebAssembly's
  };
  const client = new Client(send, async () => socket.close());
  client.heardAt = performance.now();
  client.closed = new Promise((done) => {
    socket.onclose = ({ code, reason }) => done({ code, reason });
  });
  socket.onmessage = ({ data }) => {
    client.heardAt = performance.now();
    client.handle_response(data);
  };
  return client;
}
