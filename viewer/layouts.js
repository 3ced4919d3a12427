// The layouts that each table is offered with. Their aggregates cost the server little: "last" and "sum" a tenth of others.

const SECONDS = (column) => ({ second: `bucket("${column}", '1s')` });
const LAST = (...columns) => Object.fromEntries(columns.map((column) => [column, "last"]));
const TIME = { date_format: { dateStyle: "disabled", timeStyle: "medium" } };
const PULSE = { fg_mode: "disabled", bg_mode: "pulse" }; // a cell whose number has changed lights up
const BAR = (full) => ({ fg_mode: "label-bar", fg_gradient: full });
const PERCENT = { number_format: { minimumFractionDigits: 1, maximumFractionDigits: 2 } };

const TICKERS = "AAPL.N AMZN.N CSCO.N FB.N GOOGL.N MSFT.N NVDA.N PCLN.N QQQ.N TLT.N TSLA.N XIV.N YY.N".split(" ");

const STOCKS = {
  grid: {
    label: "Grid",
    plugin: "Datagrid",
    group_by: ["ticker", "client"],
    columns: ["close", "volume", "open", "high", "low", "timestamp"],
    aggregates: { ...LAST("close", "open", "high", "low", "timestamp"), volume: "sum" },
    columns_config: { close: PULSE, timestamp: TIME },
  },
  candlestick: {
    label: "Candles",
    plugin: "Candlestick",
    group_by: ["second"],
    columns: ["open", "close", "high", "low"],
    aggregates: { open: "first", close: "last", high: "max", low: "min" },
    expressions: SECONDS("timestamp"),
    only: { column: "ticker", values: TICKERS },
  },
  prices: {
    label: "Prices",
    plugin: "Y Line",
    group_by: ["second"],
    split_by: ["ticker"],
    columns: ["change %"],
    aggregates: { "change %": "last" },
    expressions: SECONDS("timestamp"),
    filter: [["ticker", "in", ["AAPL.N", "AMZN.N", "MSFT.N", "NVDA.N", "TSLA.N"]]],
    relative: { name: "change %", column: "close", by: "ticker" },
    columns_config: { "change %": PERCENT },
    plugin_config: { legend_mode: "sidebar", legend_size_mode: "fixed", legend_width_px: 90 },
  },
  treemap: {
    label: "Volume",
    plugin: "Treemap",
    group_by: ["ticker"],
    columns: ["volume", "change %"],
    aggregates: { volume: "sum", "change %": "last" },
    relative: { name: "change %", column: "close", by: "ticker" },
    columns_config: { "change %": PERCENT },
  },
};

const METERS = {
  grid: {
    label: "Grid",
    plugin: "Datagrid",
    group_by: ["location"],
    columns: ["current", "voltage", "phase", "ts"],
    aggregates: { current: "avg", voltage: "avg", phase: "avg", ts: "last" },
    columns_config: { current: BAR(20), phase: BAR(1), ts: TIME },
  },
  lines: {
    label: "Over time",
    plugin: "Y Line",
    group_by: ["second"],
    split_by: ["location"],
    columns: ["current"],
    aggregates: { current: "avg" },
    expressions: SECONDS("ts"),
    filter: [["location", "in", ["Los Angeles", "Palo Alto", "San Diego", "San Francisco"]]],
    plugin_config: { legend_mode: "sidebar", legend_size_mode: "fixed", legend_width_px: 130 },
  },
  heatmap: {
    label: "Heat map",
    plugin: "Heatmap",
    group_by: ["second"],
    split_by: ["location"],
    columns: ["volts from 212"],
    aggregates: { "volts from 212": "avg" },
    expressions: { ...SECONDS("ts"), "volts from 212": '"voltage" - 212' },
  },
};

// Columns that the server shows at most, as they are and in groups (bridge/costs.py, bridge/view_config.py), and bytes
// of the message that names each of them twice (bridge/requests.py).
const MOST = { flat: 2000, grouped: 100, bytes: 240 * 1024 };
const utf8 = new TextEncoder();

/** The first columns that a view can have. */
function fitting(names) {
  let bytes = 0;
  const end = names.slice(0, MOST.flat).findIndex((name) => {
    bytes += 2 * utf8.encode(name).length + 20;
    return bytes > MOST.bytes;
  });
  return names.slice(0, end < 0 ? MOST.flat : end);
}

const DATASETS = { stocks: { label: "Stocks", layouts: STOCKS }, meters: { label: "Meters", layouts: METERS } };

/** The dataset of a table of /healthz: {label, layouts}; undefined for a table of the user's own. */
function dataset(table) {
  return Object.hasOwn(DATASETS, table.dataset ?? "") ? DATASETS[table.dataset] : undefined;
}

/** Layouts for any table: the newest rows; the latest row of each subtable; a number over time. */
function anyTable({ columns = {}, time, supertable }) {
  const names = Object.keys(columns);
  const rest = names.filter((name) => name !== time);
  const all = fitting(time ? [time, ...rest] : rest);
  const layouts = { newest: { label: "Newest rows", plugin: "Datagrid", columns: all } };
  if (!time) return layouts;
  layouts.newest.sort = [[time, "desc"]];
  const numbers = [/^(float|double)/, /^(integer|u?int)/].flatMap((type) =>
    rest.filter((name) => type.test(columns[name])),
  );
  if (supertable && columns.tbname) {
    const isNumber = new Set(numbers);
    const others = rest.filter((name) => name !== "tbname" && !isNumber.has(name));
    const shown = [...numbers.slice(0, MOST.grouped - 1), time, ...others].slice(0, MOST.grouped);
    const aggregates = LAST(...shown);
    layouts.latest = {
      label: "Latest by tbname",
      plugin: "Datagrid",
      group_by: ["tbname"],
      columns: shown,
      aggregates,
    };
  }
  const [number] = numbers;
  if (number) {
    layouts.time = {
      label: `${number} over time`,
      plugin: "Y Line",
      group_by: ["second"],
      columns: [number],
      aggregates: { [number]: "avg" },
      expressions: { second: `bucket("${time.replaceAll('"', '\\"')}", '1s')` },
    };
  }
  return layouts;
}

/** Says that a grid, {plugin, columns, group_by, split_by}, can't have all columns of a table of /healthz; or "". */
export function partOf({ plugin, columns = [], group_by = [], split_by = [] }, table) {
  const isGrouped = group_by.length + split_by.length > 0;
  const names = Object.keys(table.columns ?? {});
  const all = names.length;
  const count = (number) => number.toLocaleString("en");
  const shown = columns.filter(Boolean).length;
  if (plugin !== "Datagrid" || shown >= all || all <= (isGrouped ? MOST.grouped + 1 : fitting(names).length)) return "";
  return `The grid shows ${count(shown)} of ${count(all)} columns; its settings have the others.`;
}

/** What the switch calls a table of /healthz. */
export function labelOf(name, table) {
  return dataset(table)?.label ?? name;
}

/** The layouts of a table of /healthz by name, the first one being shown first: {name: {label, plugin, ...}}. */
export function layoutsOf(table) {
  return dataset(table)?.layouts ?? anyTable(table);
}

/** An expression for the change of a column, in percent, since its first row shown: each group `by` has its own. */
async function change(client, name, { column, by }, filter) {
  const table = await client.open_table(name);
  const view = await table.view({ group_by: [by], columns: [column], aggregates: { [column]: "first" }, filter });
  const [, ...groups] = await view.to_json(); // the first one is the total
  await view.delete();
  const cases = groups.map(({ __ROW_PATH__: [group], [column]: value }) => `case "${by}" == '${group}' : ${value};`);
  const first = `switch { ${cases.join(" ")} default : "${column}"; }`;
  return `("${column}" / (${first}) - 1) * 100`;
}

/** A layout {table, layout, only} of a table of /healthz as the viewer restores it; all that it does not name is reset. */
export async function readyLayout(table, view, isPhone, client) {
  const { label, only, relative, ...layout } = layoutsOf(table)[view.layout];
  if (only) layout.filter = [[only.column, "==", view.only]];
  if (relative) {
    const expression = await change(client, view.table, relative, layout.filter);
    layout.expressions = { ...layout.expressions, [relative.name]: expression };
  }
  const grid = layout.plugin === "Datagrid";
  return {
    theme: "Pro Dark",
    settings: !isPhone,
    title: null,
    columns_config: {},
    columns: [],
    group_by: [],
    split_by: [],
    filter: [],
    sort: [],
    expressions: {},
    aggregates: {},
    group_rollup_mode: grid ? "rollup" : "flat",
    plugin_config: grid ? { edit_mode: "READ_ONLY", column_menus: false } : {},
    ...layout,
  };
}
