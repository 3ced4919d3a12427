/**
 * The viewers' WebSockets: they may look, not touch, and none can stop the others.
 *
 *     const viewers = new Viewers({ maxViewers: 200, host: "127.0.0.1" });
 *     viewers.use(engine, banned);
 *     viewers.listenTo(httpServer, "/websocket");
 */

import { setTimeout as sleep } from "node:timers/promises";
import { WebSocketServer } from "ws";
import { Origins } from "./origins.js";
import { log } from "./report.js";
import { checkSize, errorTail, head, Invalid, parse, Refused } from "./requests.js";
import { SharedViews } from "./shared-views.js";
import { Viewer } from "./viewer.js";

const MAX_FRAME = 256 * 1024; // bytes of a message
const MAX_UNSENT = 32 * 1024 * 1024; // bytes waiting for a viewer that reads too slowly
const ENGINE_SHARE = 0.3; // seconds of the engine's time a second, and at once, for each viewer
const QUIET_MS = 60_000; // between two lines in the log about refusals of one host
const CLOSE_MS = 2000; // for the viewer's side to close a connection that is being closed
const PING_MS = 20_000; // between pings, and the time to answer one

// codes that connections are closed with
const [REFUSED, TRY_LATER, RESTART, GOING_AWAY] = [1008, 1013, 1012, 1001];

/** Who is connected, and who may be. */
export class Viewers {
  /** origins: host, allowOrigins, fileOrigin and allowHosts, as in Origins. */
  constructor({ maxViewers, ...origins }) {
    this.maxViewers = maxViewers;
    this.origins = new Origins(origins);
    this.connected = new Set();
    this.refusals = {}; // by kind
    this.quiet = new Map(); // host: refusals since the line in the log about it
    this.bytesSent = 0; // to all viewers
    this.engine = this.shared = null;
  }

  /** From now on viewers look at this engine; those of the one before connect again. */
  use(engine, banned) {
    this.close(RESTART, "the server starts anew");
    this.engine = engine;
    this.shared = new SharedViews(engine, banned);
  }

  count(what) {
    this.refusals[what] = (this.refusals[what] ?? 0) + 1;
  }

  /** Counts a refusal, and logs the first of each host in a minute; the others are summed up. */
  refused(what, { host, port }, reason) {
    this.count(what);
    if (this.quiet.has(host)) {
      this.quiet.set(host, this.quiet.get(host) + 1);
      return;
    }
    this.quiet.set(host, 0);
    log.warning(`viewer ${host}:${port} refused: ${reason}`);
    setTimeout(() => this.sumUp(host), QUIET_MS).unref();
  }

  sumUp(host) {
    const count = this.quiet.get(host);
    this.quiet.delete(host);
    if (count) log.warning(`viewers at ${host} refused ${count} more times within the last minute`);
  }

  /** What /healthz says about viewers. */
  health() {
    return {
      viewers: this.connected.size,
      refused: Object.values(this.refusals).reduce((sum, count) => sum + count, 0),
      busy: this.engine.isBusy,
    };
  }

  /** A table is to be hosted anew: its viewers connect again. */
  dropTable(name) {
    for (const each of [...this.connected].filter(({ viewer }) => viewer.tables.has(name))) {
      each.disconnect(RESTART, "the table is hosted anew");
    }
    this.shared.drop(name);
  }

  close(code = GOING_AWAY, reason = "server stops") {
    for (const each of [...this.connected]) each.disconnect(code, reason);
  }

  /** Lets viewers of an http server connect at `path`. */
  listenTo(server, path) {
    const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_FRAME, closeTimeout: CLOSE_MS });
    server.on("upgrade", (request, socket, start) => {
      socket.on("error", () => {}); // it ends
      const [status, text] = this.refusalOf(request, path);
      if (status) {
        this.count(`http ${status}`);
        const lines = [
          `HTTP/1.1 ${status}`,
          "Content-Type: text/plain; charset=utf-8",
          "X-Content-Type-Options: nosniff",
        ];
        socket.end(
          `${[...lines, `Content-Length: ${text.length + 1}`, "Connection: close"].join("\r\n")}\r\n\r\n${text}\n`,
        );
        return;
      }
      sockets.handleUpgrade(request, socket, start, (accepted) => new Connection(accepted, request.socket, this));
    });
    setInterval(() => {
      for (const each of this.connected) each.ping();
    }, PING_MS).unref();
  }

  /** [status, text] for who may not connect, else []. */
  refusalOf({ url, headers: { origin, host } }, path) {
    if (url.split("?")[0] !== path) return [404, "404 Not Found"];
    if (!this.origins.knowsHost(host)) return [403, "this server is not called so, see --allow-host"];
    if (origin !== undefined && !this.origins.mayComeFrom(origin, host)) {
      return [403, "pages of this origin may not connect, see --allow-origin"];
    }
    return this.connected.size < this.maxViewers ? [] : [503, "too many viewers, see --max-viewers"];
  }
}

/** The connection of one viewer. */
class Connection {
  constructor(socket, { remoteAddress: host, remotePort: port }, viewers) {
    Object.assign(this, { socket, viewers, peer: { host, port }, isClosing: false, isAlive: true });
    this.viewer = new Viewer(
      viewers.shared,
      (message) => this.send(message),
      (ms) => this.charge(ms / 1000),
    );
    [this.credit, this.creditAt] = [ENGINE_SHARE, performance.now()]; // seconds of the engine's time
    [this.turn, this.waiting] = [Promise.resolve(), 0]; // one request after the other; requests that wait
    viewers.connected.add(this);
    socket.on("message", (message, isBinary) => this.receive(message, isBinary));
    socket.on("pong", () => {
      this.isAlive = true;
    });
    socket.on("error", () => {}); // wrong frames: ws closes the connection
    socket.on("close", () => this.closed());
  }

  /** Sends unless the viewer reads too slowly: ws would keep what is not sent, without a bound. */
  send(message) {
    if (this.isClosing) return;
    if (this.socket.bufferedAmount + message.length > MAX_UNSENT) {
      this.refuse(TRY_LATER, "reads too slowly", "slow");
      return;
    }
    this.viewers.bytesSent += message.length;
    this.socket.send(message, () => {}); // a connection that is lost is no error here
  }

  /** Closes the connection; what it still sends is not looked at. */
  refuse(code, reason, what = "request") {
    if (this.isClosing) return;
    this.viewers.refused(what, this.peer, reason);
    this.disconnect(code, reason);
  }

  disconnect(code, reason) {
    this.isClosing = true;
    this.socket.resume(); // or its close frame would not be seen
    this.socket.close(code, reason);
  }

  /** A viewer that has not answered the last ping is dropped. */
  ping() {
    if (!this.isAlive) this.socket.terminate();
    this.isAlive = false;
    this.socket.ping();
  }

  /** Requests are answered one after the other: the order is kept, and a flood waits outside. */
  receive(message, isBinary) {
    if (this.isClosing) return;
    let request;
    try {
      if (!isBinary) throw new Refused("a text message");
      request = parse(message);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.refuse(REFUSED, error.message);
      return;
    }
    this.waiting += 1;
    this.socket.pause();
    this.turn = this.turn
      .then(() => this.respond(request))
      .then(() => {
        this.waiting -= 1;
        if (!this.waiting) this.socket.resume();
      });
  }

  async respond(request) {
    if (this.isClosing) return;
    const { number, kind, entity, body } = request;
    let answer;
    try {
      answer = this.viewer.known(request);
      if (!answer) {
        checkSize(body);
        await this.waitForCredit();
        answer = await this.viewer.answer(request);
      }
    } catch (error) {
      if (!(error instanceof Invalid)) {
        this.fail(error);
        return;
      }
      this.viewers.refused(kind, this.peer, `${kind}: ${error.message.slice(0, 200)}`);
      answer = errorTail(error.message);
    }
    if (answer) this.send(Buffer.concat([head(number, entity), answer]));
  }

  /** The engine has ended, or is at its limit; or a fault of ours, which is logged. */
  fail(error) {
    if (error.name !== "EngineGone" && !this.isClosing) log.error(error.stack);
    this.disconnect(RESTART, "the server starts anew");
  }

  /** Pays for the engine's time, which comes back at ENGINE_SHARE a second. */
  charge(seconds) {
    const now = performance.now();
    const earned = ((now - this.creditAt) / 1000) * ENGINE_SHARE;
    this.credit = Math.min(ENGINE_SHARE, this.credit + earned) - seconds;
    this.creditAt = now;
  }

  async waitForCredit() {
    this.charge(0);
    if (this.credit < 0) await sleep((-this.credit / ENGINE_SHARE) * 1000);
  }

  closed() {
    this.isClosing = true;
    this.viewers.connected.delete(this);
    this.turn = this.turn.then(() => this.viewer.close()).catch(() => {}); // the engine may have ended
  }
}
