/** /healthz in Prometheus' text format. */

export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";
const COUNTERS = {
  rows: "Rows shown since the start",
  missed_rows: "Rows that the database holds and that were not shown",
  unshown_values: "Values that are not of their column's type, shown as null",
  polls: "Queries for new rows",
  failed_polls: "Queries for new rows that failed",
  reconnects: "Connections to the database after the first one",
};
const GAUGES = {
  held: ["held_rows", "Rows in the Perspective table", 1],
  rows_per_s: ["rows_per_second", "Rows shown a second, lately", 1],
  age_ms: ["newest_row_age_seconds", "Age of the newest row", 1000],
  lag_ms: ["lag_seconds", "Time from a row's arrival in the database to the viewers", 1000],
};
const OTHER_COUNTERS = {
  refused: ["kind", "Requests and connections of viewers that were refused"],
  restarts: ["reason", "Replacements of the engine"],
  sent_bytes: ["", "Bytes sent to viewers"],
};

const escaped = (text) => text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

/** One metric with its samples, [labels, value]. */
function metric(type, name, help, samples) {
  const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
  for (const [labels, value] of samples) {
    const named = Object.entries(labels).map(([label, text]) => `${label}="${escaped(String(text))}"`);
    lines.push(`${name}${named.length ? `{${named.join(",")}}` : ""} ${value}`);
  }
  return lines;
}

const counter = (name, help, samples) => metric("counter", `perspective_${name}_total`, help, samples);
const gauge = (name, help, samples) => metric("gauge", `perspective_${name}`, help, samples);

/** A /healthz object as Prometheus' text format. */
export function metricsOf(health) {
  const tables = Object.entries(health.tables);
  const lines = [];
  for (const [key, help] of Object.entries(COUNTERS)) {
    lines.push(
      ...counter(
        key,
        help,
        tables.map(([table, found]) => [{ table }, found[key] ?? 0]),
      ),
    );
  }
  for (const [key, [name, help, divisor]] of Object.entries(GAUGES)) {
    const known = tables.filter(([, found]) => found[key] !== null);
    lines.push(
      ...gauge(
        name,
        help,
        known.map(([table, found]) => [{ table }, found[key] / divisor]),
      ),
    );
  }
  const states = tables.map(([table, { status }]) => [{ table, status }, 1]);
  lines.push(...gauge("status", "1 for the table's status", states));
  lines.push(...gauge("viewers", "Viewers connected", [[{}, health.viewers]]));
  lines.push(...gauge("busy", "1 while the server is at its limit", [[{}, Number(health.busy)]]));
  for (const [key, [label, help]] of Object.entries(OTHER_COUNTERS)) {
    const value = health[key];
    if (value === undefined) continue;
    const samples =
      typeof value === "object" ? Object.entries(value).map(([each, n]) => [{ [label]: each }, n]) : [[{}, value]];
    lines.push(...counter(key, help, samples));
  }
  return `${lines.join("\n")}\n`;
}
