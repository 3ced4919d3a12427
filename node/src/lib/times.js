/** Times as BigInt in units of the database, since 1970. */

/** How often `by` fits into a time, as a number; also for times before 1970. */
export function floorDivide(time, by) {
  return Number((time - (((time % by) + by) % by)) / by);
}

/** {time, ms} of the newest of the rows, {time}, that are older than beforeMs; null when there is none. */
export function newestBefore(rows, beforeMs, unitsPerS) {
  const end = (BigInt(Math.floor(beforeMs)) * unitsPerS) / 1000n;
  const times = rows.map(({ time }) => time).filter((time) => time < end);
  if (!times.length) return null;
  let time = times[0];
  for (const each of times) if (each > time) time = each;
  return { time, ms: Number((time * 1_000_000n) / unitsPerS) / 1000 };
}
