/**
 * Perspective's engine in a thread of its own (engine-worker.js), which is given one call at a time.
 *
 *     const table = await engine.table(arrow, { name: "stock_values", limit: 1000 });
 *     await table.update(arrow);
 *
 * What changes tables goes through `run`, what viewers request through `request`. When both wait, they take turns by
 * time: an engine at its limit updates less often, with more rows each, and still answers viewers.
 */

import { Worker } from "node:worker_threads";
import { Invalid } from "./requests.js";

const MAX_WAITING = 20_000; // calls
const STARTS_MS = 60_000; // the longest wait for WebAssembly to be compiled
const STUCK_MS = 60_000; // for one call
const SLOW_UPDATE_MS = 1000;
const LOAD_MS = 5000; // over which the share of time that the engine works is averaged
const AT_LIMIT = 0.8; // of it

/** The engine has ended, or more calls wait than would ever be answered in time. */
export class EngineGone extends Error {
  name = "EngineGone";
}

export class Engine {
  /** onDeath(reason, text, hand): once, when it has broken, or hung, in the call of `hand`. */
  constructor(onDeath) {
    this.onDeath = onDeath;
    this.changes = 0; // updates begun: what was read before the last one is out of date
    this.updateMs = this.beforeMs = 0; // how long the last update took, and the one before
    this.young = new Set(); // digests of requests for views that no update has gone through yet
    this.onEvent = () => {}; // (number, tail) of a subscription
    this.onGrown = () => {}; // [[name, why]] of views that were deleted
    [this.updates, this.requests] = [[], []]; // calls that wait
    this.hand = null; // the call in hand
    this.id = 0; // of the newest call
    this.isClosed = false;
    this.updatedAt = this.workedAt = performance.now();
    this.worked = 0;
    this.worker = new Worker(new URL("./engine-worker.js", import.meta.url));
    this.worker.on("message", (message) => this.receive(message));
    this.worker.on("error", (error) => this.die("crashed", error.message));
    this.worker.on("exit", () => this.die("crashed", "its thread ended"));
    this.ready = new Promise((resolve) => {
      this.take({ hand: { kind: "start" }, limitMs: STARTS_MS, resolve, reject() {} });
    });
  }

  /** A table hosted under `name`, made of its first rows: {update(arrow), delete()}. */
  async table(arrow, { name, limit }) {
    await this.run("host", name, arrow, limit);
    return {
      update: async (more) => this.onGrown(await this.run("update", name, more)),
      delete: () => this.run("unhost", name),
    };
  }

  run(...call) {
    return this.put(this.updates, { hand: { kind: "update" }, call, isUpdate: true });
  }

  /** hand: {kind, digest?, text?}, what the request is; charge(ms): its cost. */
  request(hand, charge, ...call) {
    return this.put(this.requests, { hand, call, charge });
  }

  put(queue, item) {
    return new Promise((resolve, reject) => {
      if (this.isClosed || queue.length >= MAX_WAITING) {
        reject(new EngineGone("the engine is at its limit"));
        return;
      }
      queue.push({ limitMs: STUCK_MS, ...item, resolve, reject });
      this.next();
    });
  }

  next() {
    if (this.hand || this.isClosed) return;
    const mayUpdate = !this.requests.length || performance.now() - this.updatedAt >= this.updateMs;
    const item = (mayUpdate ? this.updates.shift() : undefined) ?? this.requests.shift() ?? this.updates.shift();
    if (item) this.take(item);
  }

  take(item) {
    this.hand = item;
    item.started = performance.now();
    this.changes += Number(item.isUpdate ?? false);
    this.timer = setTimeout(() => this.die("stuck", `hung for ${item.limitMs / 1000} s`), item.limitMs);
    if (item.call) this.worker.postMessage({ id: ++this.id, call: item.call });
  }

  receive({ ready, id, result, invalid, broken, event }) {
    if (this.isClosed) return;
    if (event) this.onEvent(...event);
    else if (broken) this.die("crashed", broken);
    else if (ready || id === this.id) {
      const item = this.hand;
      this.done(item);
      if (invalid === undefined) item.resolve(result);
      else item.reject(new Invalid(invalid));
      this.next();
    }
  }

  done(item) {
    clearTimeout(this.timer);
    this.hand = null;
    const now = performance.now();
    const took = now - item.started;
    if (item.isUpdate) {
      this.young.clear();
      [this.updatedAt, this.updateMs, this.beforeMs] = [now, took, this.updateMs];
    }
    this.worked = this.worked * Math.exp((this.workedAt - now) / LOAD_MS) + took;
    this.workedAt = now;
    item.charge?.(took);
  }

  /** Whether updates take so long that no more views should be made; one that does is no reason. */
  get isSlow() {
    return Math.min(this.updateMs, this.beforeMs) > SLOW_UPDATE_MS;
  }

  /** Whether it is at its limit: how much of the last seconds it has worked. */
  get isBusy() {
    return (this.worked * Math.exp((this.workedAt - performance.now()) / LOAD_MS)) / LOAD_MS > AT_LIMIT;
  }

  /** Ends it as it needs too much memory; the call in hand is to blame if it has taken longer than slowMs. */
  recycle(text, slowMs) {
    this.die("recycled", text, this.hand && performance.now() - this.hand.started > slowMs);
  }

  die(reason, text, isToBlame = true) {
    if (this.isClosed) return;
    const hand = isToBlame ? this.hand?.hand : undefined;
    const digests = hand?.digest ? [hand.digest] : hand?.kind === "update" ? [...this.young] : [];
    this.close();
    this.onDeath(reason, text, { kind: hand?.kind, text: hand?.text, digests });
  }

  /** No more calls; the one in hand is not waited for. */
  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.timer);
    for (const item of [this.hand, ...this.updates, ...this.requests])
      item?.reject?.(new EngineGone("the engine ended"));
    this.worker.terminate();
  }
}
