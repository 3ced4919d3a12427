/** What a read of a view costs, before it is made: the engine does one thing at a time, and everyone waits for it. */

import { Invalid, READS } from "./requests.js";

export const MAX_COLUMNS = 2000; // of a view: more than any screen or chart can use
const MAX_CELLS = 400_000; // rows times columns of one read
const MAX_LEVELS = 8; // of groups

/** Puts the content of a request within a view of this `size` (Dimensions); Invalid when it is too much. */
export function bound(kind, content, size) {
  let [rows, columns] = [size.num_view_rows, size.num_view_columns];
  if (Object.hasOwn(READS, kind)) {
    content.viewport ??= {};
    rows = clamp(content.viewport, "start_row", "end_row", rows);
    columns = clamp(content.viewport, "start_col", "end_col", columns);
  } else if (kind === "view_column_paths") {
    columns = clamp(content, "start_col", "end_col", columns);
    rows = 1;
  } else if (kind !== "view_get_min_max") return;
  if (rows * columns > MAX_CELLS) {
    const [many, wide] = [rows, columns].map((number) => number.toLocaleString("en-US"));
    throw new Invalid(`This is ${many} rows of ${wide} columns, more than can be read at once: filter or group them.`);
  }
}

/** Puts a part of `count` within it; how many are read. */
function clamp(port, start, end, count) {
  const has = (name) => Object.hasOwn(port, name) && port[name] !== null;
  const first = Math.min(has(start) ? port[start] : 0, count);
  const last = Math.min(has(end) ? port[end] : count, count);
  if (has(start)) port[start] = first;
  if (has(end)) port[end] = Math.max(first, last);
  return Math.max(last - first, 0);
}

/** Invalid for a row to collapse or expand, or a depth, that a view of this size does not have. */
export function checkToggle(kind, content, size) {
  if (kind === "view_set_depth") {
    if (content.depth > MAX_LEVELS) throw new Invalid(`There are no ${content.depth} levels.`);
  } else if (content.row_index >= size.num_view_rows) {
    throw new Invalid(`There is no row ${content.row_index} any more.`);
  }
}
