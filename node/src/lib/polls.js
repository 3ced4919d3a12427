/** When to poll: shortly after a producer's batch has come, and rarely while nobody looks. */

const LAG_MS = 60; // what a batch takes to get into the database
const [REST_MS, SLACK_MS] = [2000, 100]; // most time between two polls while nobody looks; what one may come early or late
const PART = 8; // such a part of its limit a table may be brought by one poll then: the pace may rise as many times unseen

/** Milliseconds until shortly after the next full interval of the clock. */
export function untilInStep(intervalMs) {
  return intervalMs - ((Date.now() - Math.min(LAG_MS, 0.4 * intervalMs)) % intervalMs);
}

/**
 * Whether a feed is to poll now, or may rest until the next interval: while nobody looks, for up to REST_MS, if the last
 * poll has brought rows. After a pause, or before the first rows, nobody knows how many will come.
 */
export function isDue(feed, viewers, intervalMs) {
  if (viewers.areLooking() || !feed.pace) return true;
  const restMs = Math.min(REST_MS, (1000 * feed.limit) / PART / feed.pace);
  return performance.now() - feed.succeededAt + intervalMs > restMs + SLACK_MS;
}
