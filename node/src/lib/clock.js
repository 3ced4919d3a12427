/** When batches are due, and the timestamps that belong to their rows: each row its own, or it would be overwritten. */

import { Refused } from "./outbox.js";
import { say } from "./report.js";
import { onStop } from "./signals.js";

const PAUSE_MS = 100; // for the backlog to have room again
const FULL_MS = 60_000; // that the backlog is full is reported again when it wasn't for so long, or after a new connection
const nowNs = () => BigInt(Date.now()) * 1_000_000n;
const monotonicNs = () => process.hrtime.bigint();

/** Batches of `rows` rows every `intervalMs`, stamped in steps that a database of `unitsPerS` can tell apart. */
export class Clock {
  /** The first batch is due at the next full interval of the clock, shortly after which a server polls. */
  constructor(intervalMs, rows, unitsPerS = 10n ** 9n) {
    this.intervalNs = BigInt(intervalMs) * 1_000_000n;
    this.rows = rows;
    const unitNs = 10n ** 9n / unitsPerS;
    // without an interval rows are stamped as if a million came a second
    this.stepNs = intervalMs ? (this.intervalNs / BigInt(rows) / unitNs) * unitNs : 1000n;
    if (this.stepNs < unitNs) {
      throw new RangeError(
        `${rows} rows in ${intervalMs} ms can't have timestamps of their own in a database of ${unitNs} ns precision: ` +
          "fewer --rows, a longer --interval, or a database of PRECISION 'ns'",
      );
    }
    // a random phase within the step: two producers at once don't collide
    this.phaseNs = BigInt(Math.floor(Math.random() * Number(this.stepNs / unitNs))) * unitNs;
    this.nextStamp = 0n;
    this.due = monotonicNs();
    if (intervalMs) this.due += this.intervalNs - (nowNs() % this.intervalNs);
  }

  get untilDueMs() {
    return Math.max(Number(this.due - monotonicNs()) / 1e6, 0);
  }

  /** The batch that is due is not made; nor are those that fall due until now made up for. */
  skip() {
    const now = monotonicNs();
    if (this.due < now) this.due = now;
  }

  /** Timestamps in ns since 1970, BigInts, of the batch that is due, spread over the interval that has passed. */
  stamps() {
    const lateNs = this.intervalNs ? monotonicNs() - this.due : 0n;
    const length = BigInt(this.rows) * this.stepNs;
    let first = ((nowNs() - lateNs - length) / this.stepNs) * this.stepNs + this.phaseNs;
    if (first < this.nextStamp) first = this.nextStamp; // also when the clock was set back
    this.nextStamp = first + length;
    this.due += this.intervalNs;
    return Array.from({ length: this.rows }, (_, k) => first + BigInt(k) * this.stepNs);
  }
}

/**
 * Yields the timestamps of each batch when it is due, until args.batches are made or SIGINT or SIGTERM comes.
 *
 * Waits first for the outbox to be connected, which then knows the database's timestamp units per second. While the
 * backlog is full no batches are due. Refused when rows could not be told apart at this pace, or as Outbox.put.
 */
export async function* batches(outbox, args) {
  let isStopped = false;
  onStop(() => {
    isStopped = true;
    outbox.wake();
  });
  const wait = (ms, until = () => false) => outbox.wait(ms, () => isStopped || until());
  while (!isStopped && outbox.unitsPerS === null) await wait(1000, () => outbox.unitsPerS !== null);
  if (isStopped) return;
  let clock;
  try {
    clock = new Clock(args.interval, args.rows, outbox.unitsPerS);
  } catch (error) {
    throw new Refused(error.message, 2);
  }
  let [fullAt, connects] = [Number.NEGATIVE_INFINITY, 0]; // when it was full last, and the connections until then
  for (let made = 0; !args.batches || made < args.batches; ) {
    await wait(clock.untilDueMs);
    // without an interval the pace is the database's: one batch on its way, one ready
    if (!args.interval) while (!isStopped && outbox.kept.length >= 2) await wait(1000, () => outbox.kept.length < 2);
    if (isStopped) return;
    if (outbox.hasRoom(args.rows)) {
      yield clock.stamps();
      made += 1;
      continue;
    }
    if (performance.now() - fullAt > FULL_MS || connects !== outbox.connects) {
      say(`--backlog is full (${outbox.keptRows.toLocaleString("en-US")} rows): no new rows until some are sent`);
    }
    [fullAt, connects] = [performance.now(), outbox.connects];
    clock.skip();
    await wait(PAUSE_MS);
  }
  while (!isStopped && outbox.kept.length) await wait(1000, () => !outbox.kept.length);
}
