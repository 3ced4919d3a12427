// Whether a connection still is one.

const TICK_MS = 250;
const QUIET_MS = 750; // after so long without a message, a small question is sent
const SILENT_TICKS = 16; // the longest wait for its answer; by ticks, as a busy page is late itself

/** `promise`, or an Error after ms. */
export function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, failed) => {
    timer = setTimeout(() => failed(new Error(`${what} within ${ms / 1000} s.`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * A promise that rejects once the client of viewer/perspective.js is lost: closed, or silent for 5 s, which a network that
 * went away does not report. The Error has the close code, 0 for silence; the client has `isLost` from then on.
 */
export function lostOf(client) {
  const lost = new Promise((_, failed) => {
    const lose = (code, reason) => {
      clearInterval(timer);
      client.isLost = true;
      failed(Object.assign(new Error(reason), { code }));
    };
    let askedAt = null;
    let ticks = 0; // since then
    const timer = setInterval(() => {
      const now = performance.now();
      if (askedAt !== null && client.heardAt > askedAt) askedAt = null;
      if (askedAt !== null) {
        ticks += 1;
        if (ticks >= SILENT_TICKS) lose(0, "silent");
      } else if (now - client.heardAt >= QUIET_MS) {
        [askedAt, ticks] = [now, 0];
        client.get_hosted_table_names().catch(() => {});
      }
    }, TICK_MS);
    client.closed.then(({ code, reason }) => lose(code, reason));
  });
  lost.catch(() => {}); // nobody may be waiting for it
  return lost;
}
