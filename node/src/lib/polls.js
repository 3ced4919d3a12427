/** When to poll: shortly after a producer's batch has come, and rarely while nobody looks. */

const LAG_MS = 60; // what a batch takes to get into the database
const REST_MS = 1900; // between two polls at most

/** Milliseconds until shortly after the next full interval of the clock. */
export function untilInStep(intervalMs) {
  return intervalMs - ((Date.now() - Math.min(LAG_MS, 0.4 * intervalMs)) % intervalMs);
}

/** Whether a feed is to tick now: while nobody looks rarely, but before rows at this pace fill half its limit. */
export function isDue(feed, viewers) {
  if (viewers.areLooking() || feed.shown === null) return true;
  const restMs = Math.min(REST_MS, (500 * feed.limit) / Math.max(feed.counters.rowsPerS(), 1));
  return performance.now() - feed.succeededAt > restMs;
}
