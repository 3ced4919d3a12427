/**
 * What a view and a read of it would cost, before it is made: the engine does one thing at a time, and everyone waits.
 *
 * The bounds are those of the Python server.
 */

import { Invalid, make, pb, READS } from "./requests.js";

export const MAX_COLUMNS = 2000; // of a view: more than any screen or chart can use
const MAX_SPLIT_CELLS = 400_000; // of a view that is split
const MAX_INNER = 2000; // groups that are grouped further: the engine works on each for long
const MAX_READ_MS = 100;
const [COLUMN_MS, ROW_MS, CELL_MS] = [0.03, 0.0006, 0.00025]; // of a read
const COUNTED_MS = 30_000; // how long a count of different values is used
const MAX_COUNTS = 500; // of these that are kept
const shown = (number) => number.toLocaleString("en-US");

/** Puts the content of a request about a view of this `size` (Dimensions) within it; Invalid when it is too much. */
export function bound(kind, content, size) {
  let [rows, columns] = [size.num_view_rows, size.num_view_columns];
  if (Object.hasOwn(READS, kind)) {
    content.viewport ??= {};
    if (kind !== "view_to_ndjson_string") {
      // which is always whole, whatever is requested
      rows = clamp(content.viewport, "start_row", "end_row", rows);
      columns = clamp(content.viewport, "start_col", "end_col", columns);
    }
  } else if (kind === "view_column_paths") {
    columns = clamp(content, "start_col", "end_col", columns);
    rows = 1;
  } else if (kind === "view_get_min_max") columns = 1;
  else if (["view_collapse", "view_expand"].includes(kind)) {
    if (content.row_index >= rows) throw new Invalid(`There is no row ${content.row_index} any more.`);
    return;
  } else return;
  if (columns * COLUMN_MS + rows * ROW_MS + rows * columns * CELL_MS > MAX_READ_MS) {
    const much = `${shown(rows)} rows of ${shown(columns)} columns`;
    throw new Invalid(`${much} are too much to be read at once: filter or group them.`);
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

/** Whether a view of these dimensions may be kept. */
export function checkSize(isSplit, size) {
  checkColumns(size.num_view_columns);
  if (isSplit) checkCells(size.num_view_rows, size.num_view_columns);
}

function checkColumns(count) {
  if (count <= MAX_COLUMNS) return;
  const much = `This makes ${shown(count)} columns, more than ${shown(MAX_COLUMNS)}`;
  throw new Invalid(`${much}: split by fewer values, or filter them.`);
}

function checkCells(rows, columns) {
  if (rows * columns <= MAX_SPLIT_CELLS) return;
  throw new Invalid(`This makes ${shown(rows)} rows of ${shown(columns)} columns: split or group by fewer values.`);
}

/** How many different values columns have, counted by the engine. */
export class Counts {
  constructor(session) {
    this.session = session;
    this.found = new Map(); // table, expression and column as JSON: {at, count}
  }

  /** Invalid for a view that would take too long to make. */
  async checkView(table, config) {
    const { group_by: groups, split_by: splits } = config;
    for (let level = 1; level < groups.length; level++) {
      if ((await this.groups(table, config, groups.slice(0, level), MAX_INNER)) > MAX_INNER) {
        const much = `More than ${shown(MAX_INNER)} groups can't be grouped further`;
        throw new Invalid(`${much}: group by what has fewer values first.`);
      }
    }
    if (!splits.length) return;
    const width = config.columns?.columns?.columns.length || (await this.session.columns(table)).size;
    const columns = (await this.groups(table, config, splits, Math.floor(MAX_COLUMNS / width))) * width;
    checkColumns(columns);
    let rows = pb("Size").decode(await this.session.ask("table_size", table)).size;
    if (groups.length && rows * columns > MAX_SPLIT_CELLS) {
      rows = await this.groups(table, config, groups, Math.floor(MAX_SPLIT_CELLS / columns));
    }
    checkCells(rows, columns);
  }

  /** How many groups these columns make: an upper bound if that is no more than `enough`, or else the number. */
  async groups(table, config, names, enough) {
    let most = 1;
    for (const name of names) most *= await this.count(table, config, name);
    if (most <= enough || (names.length === 1 && !config.filter.length)) return most;
    return this.probe(table, config, names, config.filter);
  }

  async count(table, config, name) {
    const key = JSON.stringify([table, config.expressions[name] ?? null, name]);
    const now = performance.now();
    if (now - (this.found.get(key)?.at ?? Number.NEGATIVE_INFINITY) > COUNTED_MS) {
      const count = await this.probe(table, config, [name], []);
      if (this.found.size >= MAX_COUNTS) this.found.clear();
      this.found.set(key, { at: now, count });
    }
    return Math.max(this.found.get(key).count, 1);
  }

  /** Makes a view of the groups alone, which takes less time than the view itself, and counts its rows. */
  async probe(table, config, names, filter) {
    const { session } = this;
    const needed = [...names, ...filter.map(({ column }) => column)];
    const [column] = (await session.columns(table)).keys();
    const probe = {
      group_by: names,
      filter,
      filter_op: config.filter_op,
      group_rollup_mode: pb("ViewConfig").lookup("GroupRollup").values.GROUP_FLAT,
      columns: { columns: { columns: [column] } },
      expressions: Object.fromEntries(Object.entries(config.expressions).filter(([name]) => needed.includes(name))),
    };
    await session.ask("table_make_view", table, make("MakeView", { view_id: "probe", config: probe }));
    try {
      return (await session.dimensions("probe")).num_view_rows;
    } finally {
      await session.ask("view_delete", "probe");
    }
  }
}
