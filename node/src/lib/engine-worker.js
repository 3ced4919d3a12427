/**
 * The one thread that calls Perspective's engine, which engine.js starts: WebAssembly, one call after the other.
 *
 * Messages in: {id, call: [name, ...parameters]}. Messages out: {id, result}, {id, invalid: text}, {broken: text},
 * {event: [number, tail]}.
 */

import { parentPort } from "node:worker_threads";
import { make_client, PerspectiveServer } from "@perspective-dev/client";
import { Invalid, make, tail } from "./requests.js";
import { Broken, Session } from "./session.js";

const server = new PerspectiveServer();
// what comes back lies in memory that the next call may move: copied
const own = server.make_session(async (message) => client.handle_response(message.slice()));
const client = make_client((message) => own.handle_request(message.slice()));
const session = new Session(server, (number, event) => parentPort.postMessage({ event: [number, event] }));
const tables = new Map(); // hosted, by name

const CALLS = {
  /** Hosts a table, made of its first rows as Arrow; limit: rows that it holds. */
  async host(name, arrow, limit) {
    tables.set(name, await client.table(arrow.buffer, { name, limit }));
  },
  async update(name, arrow) {
    await tables.get(name).update(arrow.buffer);
    return session.deleteGrown();
  },
  async unhost(name) {
    await session.dropViews(name);
    await tables.get(name)?.delete();
    tables.delete(name);
  },
  async askTable(kind, entity, body) {
    return tail(kind, await session.ask(kind, entity, Buffer.from(body)));
  },
  async validate(table, texts) {
    return tail("table_validate_expr", make("ValidatedExpressions", await session.validate(table, texts)));
  },
};
for (const name of ["makeView", "deleteView", "look", "toggle", "subscribe", "stopEvents"]) {
  CALLS[name] = (...parameters) => session[name](...parameters);
}

async function answer({ id, call: [name, ...parameters] }) {
  try {
    parentPort.postMessage({ id, result: await CALLS[name](...parameters) });
  } catch (error) {
    if (error instanceof Invalid) parentPort.postMessage({ id, invalid: error.message });
    else parentPort.postMessage({ broken: error instanceof Broken ? error.message : error.stack });
  }
}

parentPort.on("message", answer); // engine.js sends the next one after the answer
parentPort.postMessage({ ready: true });
