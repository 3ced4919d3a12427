/**
 * The viewers' WebSockets: they may look, not touch, and none can stop the others.
 *
 *     const viewers = new Viewers({ maxViewers: 200, host: "127.0.0.1" });
 *     viewers.use(engine, banned);
 *     viewers.listenTo(httpServer, "/websocket");
 */

import http from "node:http";
import { WebSocketServer } from "ws";
import { Connection, GOING_AWAY, RESTART } from "./connection.js";
import { Origins } from "./origins.js";
import { log } from "./report.js";
import { LONGEST } from "./requests.js";
import { SharedViews } from "./shared-views.js";

const QUIET_MS = 60_000; // between two lines in the log about refusals of one host
const LOOK_MS = 2500; // after a question for /healthz or /metrics, somebody is looking
const CLOSE_MS = 2000; // for the viewer's side to close a connection that is being closed
const PING_MS = 20_000; // between pings, and the time to answer one

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
    this.askedAt = Number.NEGATIVE_INFINITY; // for health()
    this.engine = this.shared = null;
  }

  /** Whether there is a viewer, or somebody has asked for health() within the last seconds. */
  areLooking() {
    return this.connected.size > 0 || performance.now() - this.askedAt < LOOK_MS;
  }

  /** From now on viewers look at this engine; those of the one before connect again. */
  use(engine, banned) {
    this.close(RESTART, "the server starts anew");
    this.engine = engine;
    this.shared = new SharedViews(engine, banned);
  }

  /** Why a page of this origin can't open the WebSocket; null when it could if it got as far as us. */
  obstacle(origin, host) {
    if (!this.origins.mayComeFrom(origin, host)) return "origin";
    return this.connected.size < this.maxViewers ? null : "full";
  }

  /** Counts a refusal, and logs the first of each host in a minute; the others are summed up. */
  refused(what, { host, port }, reason) {
    this.refusals[what] = (this.refusals[what] ?? 0) + 1;
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
    this.askedAt = performance.now();
    return {
      viewers: this.connected.size,
      refused: { ...this.refusals },
      sent_bytes: this.bytesSent,
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
    const sockets = new WebSocketServer({ noServer: true, maxPayload: LONGEST, closeTimeout: CLOSE_MS });
    server.on("upgrade", (request, socket, start) => {
      socket.on("error", () => {}); // it ends
      const [status, text] = this.refusalOf(request, path);
      if (status) {
        this.refused(`http ${status}`, { host: socket.remoteAddress, port: socket.remotePort }, text);
        const lines = [
          `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}`,
          "Content-Type: text/plain; charset=utf-8",
          "X-Content-Type-Options: nosniff",
        ];
        socket.write(
          `${[...lines, `Content-Length: ${text.length + 1}`, "Connection: close"].join("\r\n")}\r\n\r\n${text}\n`,
        );
        socket.destroySoon(); // also when the client leaves its side open
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
