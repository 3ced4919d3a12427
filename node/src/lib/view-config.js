/** What a view may be made of: columns, filters and aggregates that the engine knows. */

import { MAX_COLUMNS } from "./costs.js";
import { COLUMN_TYPES, Invalid, pb } from "./requests.js";

export const MAX_LEVELS = 8; // of groups, and of splits
const MAX_ITEMS = 100; // filters, sorts, expressions, windows: of each
const MAX_AGGREGATED = 100; // columns: for each the engine works on all rows when the view is made, and on many at each update
const NULL_FILTERS = ["is null", "is not null"];
const LIST_FILTERS = ["in", "not in"];
const WINDOWS = "sum avg count min max stddev var lag lead diff rate ema".split(" ");
const YEAR_9999_MS = 253_402_300_799_000; // since 1970
const ORDERS = pb("ViewConfig").lookup("SortOrder").values;
const { GROUP_TOTAL } = pb("ViewConfig").lookup("GroupRollup").values;
const COLUMN_SORTS = [ORDERS.COL_ASC, ORDERS.COL_DESC, ORDERS.COL_ASC_ABS, ORDERS.COL_DESC_ABS];
const TIMES = [COLUMN_TYPES.DATE, COLUMN_TYPES.DATETIME];

/** Which filters and aggregates the engine knows for each type of column, of its answer to get_features. */
export class Features {
  constructor(body) {
    const { filter_ops, aggregates } = pb("Features").decode(body);
    const byType = (entries, of) => new Map(Object.entries(entries).map(([type, each]) => [Number(type), of(each)]));
    this.filters = byType(filter_ops, ({ options }) => new Set(options));
    this.aggregates = byType(
      aggregates,
      (each) => new Map(each.aggregates.map(({ name, args }) => [name, args.length])),
    );
    // it says that it knows these, and crashes (docs/engine-faults.md)
    for (const [type, found] of this.aggregates) {
      found.delete("high minus low");
      if (TIMES.includes(type)) found.delete("avg");
    }
  }
}

/**
 * Throws Invalid for what the engine can't make a view of.
 *
 * columns are the table's, expressions those that the config adds: Maps of name to type. What means nothing, or what
 * the engine needs to see, is put in order in the config itself.
 */
export function checkConfig(config, columns, expressions, features) {
  let types = new Map([...columns, ...expressions]);
  for (const what of ["group_by", "split_by"]) {
    const names = config[what];
    if (names.length > MAX_LEVELS || new Set(names).size < names.length) {
      throw new Invalid(`${what}: at most ${MAX_LEVELS} levels, all different.`);
    }
    for (const name of names) known(name, types, what);
  }
  for (const what of ["filter", "sort", "expressions", "windows"]) {
    if (Object.keys(config[what]).length > MAX_ITEMS) throw new Invalid(`${what}: at most ${MAX_ITEMS}.`);
  }
  for (const name of [...expressions.keys(), ...Object.keys(config.windows)]) {
    if (name.startsWith("psp_")) throw new Invalid(`"${name}": names that begin with psp_ are the engine's own.`);
  }
  for (const [name, window] of Object.entries(config.windows)) {
    if (types.has(name) || !name) throw new Invalid(`window "${name}": there is a column of this name.`);
    checkWindow(name, window, columns, types);
  }
  types = new Map([...types, ...Object.keys(config.windows).map((name) => [name, COLUMN_TYPES.FLOAT])]);
  const aggregated = checkWidth(config, columns);
  for (const name of config.columns?.columns?.columns ?? []) known(name, types, "columns");
  config.sort = tidySort(config, types);
  if (config.group_by_depth > config.group_by.length) config.group_by_depth = config.group_by.length;
  for (const each of config.filter) checkFilter(each, known(each.column, types, "filter"), features);
  for (const [name, { aggregations }] of Object.entries(config.aggregates)) {
    if (types.has(name)) checkAggregate(name, aggregations, types.get(name), types, features);
    if (!aggregated.has(name)) delete config.aggregates[name]; // also of an expression that was deleted
  }
}

/** The names of what is aggregated; without groups a column costs little, and a wide table is shown whole. */
function checkWidth(config, columns) {
  const shown = config.columns?.columns ? config.columns.columns.columns : [...columns.keys()];
  if (shown.length > MAX_COLUMNS) throw new Invalid(`columns: at most ${MAX_COLUMNS.toLocaleString("en-US")}.`);
  const isTotal = config.group_rollup_mode === GROUP_TOTAL;
  if (!config.group_by.length && !config.split_by.length && !isTotal) return new Set();
  if (shown.length > MAX_AGGREGATED) {
    throw new Invalid(`columns: at most ${MAX_AGGREGATED} can be grouped or split, take some away first.`);
  }
  return new Set([...shown, ...config.sort.map(({ column }) => column)]);
}

/** One sort a column, and none of columns where there are no splits: the engine crashes on others. */
function tidySort({ sort, split_by }, types) {
  const sorts = new Map();
  for (const each of sort) {
    known(each.column, types, "sort");
    if (!Object.values(ORDERS).includes(each.op)) throw new Invalid("sort: this order is not known.");
    const isOfColumns = COLUMN_SORTS.includes(each.op);
    if (each.op !== ORDERS.NONE && (split_by.length || !isOfColumns) && !sorts.has(each.column)) {
      sorts.set(each.column, each);
    }
  }
  return [...sorts.values()];
}

function known(name, types, what) {
  if (!types.has(name)) throw new Invalid(`${what}: there is no column "${name}".`);
  return types.get(name);
}

function checkFilter(each, type, features) {
  const { column, op, value } = each;
  if (!features.filters.get(type)?.has(op)) {
    throw new Invalid(`filter "${column}": ${op || "nothing"} is no comparison for this column.`);
  }
  if (NULL_FILTERS.includes(op) && !value.length) each.value = [pb("Scalar").create({ null: 0 })];
  if (!LIST_FILTERS.includes(op) && each.value.length !== 1)
    throw new Invalid(`filter "${column}" ${op}: needs one value.`);
  for (const value of each.value) {
    if (!value.scalar) throw new Invalid(`filter "${column}" ${op}: a value is missing.`);
    if (TIMES.includes(type) && !(Math.abs(value.float) <= YEAR_9999_MS)) {
      throw new Invalid(`filter "${column}" ${op}: this is no time.`);
    }
  }
}

function checkAggregate(name, [op, ...others], type, types, features) {
  const arities = features.aggregates.get(type);
  if (!arities?.has(op)) throw new Invalid(`aggregate of "${name}": ${op ?? "nothing"} is not known for this column.`);
  if (others.length !== arities.get(op)) {
    throw new Invalid(`aggregate of "${name}": ${op} needs ${arities.get(op)} more columns.`);
  }
  for (const other of others) known(other, types, `aggregate of "${name}"`);
}

function checkWindow(name, window, columns, types) {
  const what = `window "${name}"`;
  known(window.source, types, what);
  if (!WINDOWS.includes(window.op)) throw new Invalid(`${what}: ${window.op || "nothing"} is not known.`);
  for (const other of [...window.partition_by, ...(window.order_by ? [window.order_by.column] : [])]) {
    known(other, columns, what);
  }
}
