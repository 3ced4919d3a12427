/**
 * Keeps a server alive whose engine may break: the engine's thread is replaced when that happens.
 *
 *     const status = await supervise(serve, { maxMemoryMb: 1024 });
 *
 * `serve(engine, place)` starts what uses an engine, and returns a function that stops it. WebAssembly that has failed
 * once can't be used any more, and its memory never shrinks; the rest of the process is not touched by either.
 */

import { Engine } from "./engine.js";
import { log } from "./report.js";
import { onStop } from "./signals.js";

const CHECK_MS = 1000; // between two looks at the memory
const [MAX_DEATHS, DEATHS_MS] = [5, 60_000]; // more deaths in so long: give up
const SETTLE_MS = 10_000; // for the memory of an engine that has ended to be given back
const SLOW_MS = 1000; // a request that takes longer, when memory runs out, is why it does

/** What a new engine finds: what became of those before it. */
class Place {
  constructor() {
    this.banned = new Map(); // digest of each request that killed an engine: its kind
    this.restarts = { crashed: 0, recycled: 0, stuck: 0 };
    this.started = performance.now();
  }

  /** For how long there has been a server. */
  get ageS() {
    return Math.floor((performance.now() - this.started) / 1000);
  }
}

/** Memory of this process in MB, 0 when no descriptor is free to read it with. */
function residentMb() {
  try {
    return process.memoryUsage.rss() / 2 ** 20;
  } catch {
    return 0;
  }
}

/** Resolves to the exit status: 0 after SIGINT or SIGTERM, 1 when engines break again and again. */
export function supervise(serve, { maxMemoryMb }) {
  const place = new Place();
  const deaths = [];
  return new Promise((resolve, reject) => {
    let stop = () => {};
    let engine, startedAt;

    function start() {
      startedAt = performance.now();
      engine = new Engine(bury);
      stop = serve(engine, place, reject);
    }

    /** Notes why an engine died, and bans the request that it had in hand, if that is the reason. */
    function bury(reason, text, hand) {
      stop();
      place.restarts[reason] += 1;
      for (const digest of hand.digests) place.banned.set(digest, hand.kind);
      const what = hand.kind ? ` in ${hand.kind}${hand.text ? `: ${hand.text}` : ""}` : "";
      const refused = hand.digests.length ? ", which is refused from now on" : "";
      log.error(`the engine has ${reason} (${text})${what}${refused}: it starts anew`);
      deaths.push(performance.now());
      if (deaths.length > MAX_DEATHS && deaths.at(-1) - deaths.at(-1 - MAX_DEATHS) < DEATHS_MS) {
        log.error(`the engine died ${MAX_DEATHS + 1} times within a minute: giving up`);
        resolve(1);
      } else start();
    }

    const timer = setInterval(() => {
      if (residentMb() > maxMemoryMb && performance.now() - startedAt > SETTLE_MS)
        engine.recycle(`more than ${maxMemoryMb} MB`, SLOW_MS);
    }, CHECK_MS);
    onStop(() => resolve(0));
    start();
    timer.unref();
  });
}
