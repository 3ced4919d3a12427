// The status line and the message below it.

import { changed } from "./address.js";

const SYMBOLS = { live: "●", waiting: "◌", stale: "▲", incomplete: "▲", away: "✕", error: "✕", loading: "…" };
const count = (value) => Math.round(value).toLocaleString("en");
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** The numbers of a table, as "250 rows/s · 20,000 of 50,500 rows · last row 119 ms ago · 3 viewers". */
export function numbers(health, name) {
  const { rows, rows_per_s, age_ms, held = rows } = health.tables[name];
  const age = Math.max(age_ms, 0); // the server's clock and the database's may differ
  return [
    `${count(rows_per_s)} rows/s`,
    held < rows ? `${count(held)} of ${plural(rows, "row")}` : plural(rows, "row"),
    age_ms === null ? "no row yet" : `last row ${age < 10_000 ? `${count(age)} ms` : `${count(age / 1000)} s`} ago`,
    plural(health.viewers, "viewer"),
  ].join(" · ");
}

/** What is to be known about a table, in sentences; "" when there is nothing. */
export function notes(health, name) {
  const { missed_rows = 0, unshown_values = 0, history, error } = health.tables[name];
  const found = [];
  if (history) found.push(`Loading history: ${count(history.loaded)} of ${plural(history.of, "row")}.`);
  if (missed_rows) found.push(`${plural(missed_rows, "row")} could not be shown: too many came at once.`);
  if (unshown_values)
    found.push(`${plural(unshown_values, "value")} could not be shown as their column's type and are empty.`);
  if (health.busy) found.push("The server is at its limit: updates come less often, each with more rows.");
  if (error) found.push(error);
  return found.join(" ");
}

/** State and message for a table whose layout is drawn or not (`drawn`): [state, text]. */
export function stateOf(health, name, drawn) {
  const { status, error, dataset } = health.tables[name];
  if (status === "waiting") return ["waiting", error ?? "Waiting for the first rows."];
  if (status === "stale")
    return ["stale", error ?? `No new rows: is ${dataset ? "producer.py" : "what writes them"} running?`];
  const text = notes(health, name);
  if (!drawn) return ["loading", text];
  return [status === "incomplete" ? "incomplete" : "live", text];
}

/** Shows a state and a message, with links as [label, change of the address]. */
export function show(state, text = "", links = []) {
  const [line, message] = [document.getElementById("state"), document.getElementById("message")];
  // a screen reader would read it again
  if (line.dataset.state === state && message.dataset.text === text) return;
  line.dataset.state = state;
  line.textContent = `${SYMBOLS[state]} ${state}`;
  message.dataset.text = text;
  const body = document.createElement("bdi"); // names and values in it may be of any language
  body.textContent = text;
  const anchors = links.flatMap(([label, change]) => {
    const link = document.createElement("a");
    link.textContent = label;
    link.href = changed(location.href, change);
    return [" ", link];
  });
  message.replaceChildren(body, ...anchors);
  message.hidden = !text;
}

export function showNumbers(text) {
  document.getElementById("numbers").textContent = text;
}
