// The layouts that each table is offered with. Their aggregates cost the server little: "last" and "sum" a tenth of others.

const SECONDS = (column) => ({ second: `bucket("${column}", '1s')` });
const LAST = (...columns) => Object.fromEntries(columns.map((column) => [column, "last"]));
const NUMBERS = ["integer", "float"];

const STOCKS = {
  grid: {
    label: "Grid",
    plugin: "Datagrid",
    group_by: ["ticker", "client"],
    columns: ["close", "volume", "open", "high", "low", "timestamp"],
    aggregates: { ...LAST("close", "open", "high", "low", "timestamp"), volume: "sum" },
  },
  candlestick: {
    label: "Candles",
    plugin: "Candlestick",
    group_by: ["second"],
    columns: ["open", "close", "high", "low"],
    aggregates: { open: "first", close: "last", high: "max", low: "min" },
    expressions: SECONDS("timestamp"),
    filter: [["ticker", "==", "AAPL.N"]],
  },
  prices: {
    label: "Prices",
    plugin: "Y Line",
    group_by: ["second"],
    split_by: ["ticker"],
    columns: ["close"],
    aggregates: { close: "last" },
    expressions: SECONDS("timestamp"),
    filter: [["ticker", "in", ["AAPL.N", "AMZN.N", "NVDA.N", "TSLA.N"]]],
  },
  treemap: {
    label: "Volume",
    plugin: "Treemap",
    group_by: ["ticker", "client"],
    columns: ["volume", "close"],
    aggregates: { volume: "sum", close: "last" },
  },
};

const METERS = {
  grid: {
    label: "Grid",
    plugin: "Datagrid",
    group_by: ["location"],
    columns: ["current", "voltage", "phase", "ts"],
    aggregates: { current: "avg", voltage: "avg", phase: "avg", ts: "last" },
  },
  lines: {
    label: "Over time",
    plugin: "Y Line",
    group_by: ["second"],
    split_by: ["location"],
    columns: ["current"],
    aggregates: { current: "avg" },
    expressions: SECONDS("ts"),
  },
  heatmap: {
    label: "Heat map",
    plugin: "Heatmap",
    group_by: ["second"],
    split_by: ["location"],
    columns: ["voltage"],
    aggregates: { voltage: "avg" },
    expressions: SECONDS("ts"),
  },
};

const DATASETS = { stocks: { label: "Stocks", layouts: STOCKS }, meters: { label: "Meters", layouts: METERS } };

/** The dataset of a table of /healthz: {label, layouts}; undefined for a table of the user's own. */
function dataset(table) {
  return Object.hasOwn(DATASETS, table.dataset ?? "") ? DATASETS[table.dataset] : undefined;
}

/** Layouts for any table: the newest rows; the latest row of each subtable; a number over time. */
function anyTable({ columns = {}, time, supertable }) {
  const names = Object.keys(columns);
  const rest = names.filter((name) => name !== time);
  const layouts = { newest: { label: "Newest rows", plugin: "Datagrid", columns: time ? [time, ...rest] : rest } };
  if (time) layouts.newest.sort = [[time, "desc"]];
  if (supertable && columns.tbname) {
    const shown = [...rest.filter((name) => name !== "tbname"), time];
    layouts.latest = {
      label: "Latest by tbname",
      plugin: "Datagrid",
      group_by: ["tbname"],
      columns: shown,
      aggregates: LAST(...shown),
    };
  }
  const number = rest.find((name) => NUMBERS.includes(columns[name]));
  if (time && number) {
    layouts.time = {
      label: `${number} over time`,
      plugin: "X/Y Line",
      columns: [time, number],
    };
  }
  return layouts;
}

/** What the switch calls a table of /healthz. */
export function labelOf(name, table) {
  return dataset(table)?.label ?? name;
}

/** The layouts of a table of /healthz by name, the first one being shown first: {name: {label, plugin, ...}}. */
export function layoutsOf(table) {
  return dataset(table)?.layouts ?? anyTable(table);
}

/** A layout {layout} of a table of /healthz as the viewer restores it; all that it does not name is reset. */
export function readyLayout(table, view, isPhone) {
  const { label, ...layout } = layoutsOf(table)[view.layout];
  const grid = layout.plugin === "Datagrid";
  return {
    theme: "Pro Dark",
    settings: !isPhone,
    title: null,
    columns_config: null,
    columns: [],
    group_by: [],
    split_by: [],
    filter: [],
    sort: [],
    expressions: {},
    aggregates: {},
    group_rollup_mode: grid ? "rollup" : "flat",
    plugin_config: grid ? { edit_mode: "READ_ONLY" } : {},
    ...layout,
  };
}
