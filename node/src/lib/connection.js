/** The connection of one viewer: what it sends is looked at, what it is sent is bounded. */

import { setTimeout as sleep } from "node:timers/promises";
import { log } from "./report.js";
import { checkSize, errorTail, head, Invalid, isLarge, MAX_MESSAGE, parse, Refused, wideTable } from "./requests.js";
import { Viewer } from "./viewer.js";

const MAX_UNSENT = 32 * 1024 * 1024; // bytes waiting for a viewer that reads too slowly
const ENGINE_SHARE = 0.3; // seconds of the engine's time a second, and at once, for each viewer

// codes that connections are closed with
const [REFUSED, TRY_LATER] = [1008, 1013];
export const [RESTART, GOING_AWAY] = [1012, 1001];

export class Connection {
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
    let answer;
    try {
      if (!isBinary) throw new Refused("a text message");
      if (message.length > MAX_MESSAGE) {
        const table = wideTable(message);
        answer = () => this.respondToLarge(message, table);
      } else {
        const request = parse(message);
        answer = () => this.respond(request);
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.refuse(REFUSED, error.message);
      return;
    }
    this.waiting += 1;
    this.socket.pause();
    this.turn = this.turn.then(answer).then(() => {
      this.waiting -= 1;
      if (!this.waiting) this.socket.resume();
    });
  }

  /** What makes a view of a wide table; nothing else takes so much. */
  async respondToLarge(message, table) {
    if (this.isClosing) return;
    try {
      await this.respond(parse(message, await this.viewer.shared.room(table, this.viewer.charge)));
    } catch (error) {
      if (error instanceof Refused) this.refuse(REFUSED, error.message);
      else this.fail(error);
    }
  }

  async respond(request) {
    if (this.isClosing) return;
    const { number, kind, entity, body } = request;
    let answer;
    try {
      answer = this.viewer.known(request);
      if (!answer) {
        await this.waitForCredit();
        const isOfWide = kind === "table_make_view" && isLarge(body);
        checkSize(body, isOfWide ? await this.viewer.shared.room(entity, this.viewer.charge) : 0);
        answer = await this.viewer.answer(request);
      }
    } catch (error) {
      if (!(error instanceof Invalid)) {
        this.fail(error);
        return;
      }
      this.viewers.refused(kind, this.peer, `${kind}: ${error.message.slice(0, 200)}`);
      answer = errorTail(error);
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
