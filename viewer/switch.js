// Which table and layout are shown: from the address, chosen by the switch, with entries in the browser's history.

import { changed } from "./address.js";
import { labelOf, layoutsOf } from "./layouts.js";

const forTable = (name) => ({ table: name, layout: null, only: null }); // what changes in the address
const forLayout = (name) => ({ layout: name });
const forOnly = (value) => ({ only: value });

/**
 * What the address, or else the server, names: {table, layout}, with `only`, the one value of a column, in layouts that
 * show one; or {table?, problem: [text, links]} with links as [label, change of the address]. `shown` is the table that
 * was shown last.
 */
export function choice(href, health, shown) {
  const { searchParams } = new URL(href);
  const names = Object.keys(health.tables);
  const table =
    searchParams.get("table") ??
    names.find((name) => name === shown) ??
    names.find((name) => health.tables[name].rows) ??
    names[0];
  if (!names.includes(table)) {
    const links = names.map((name) => [name, forTable(name)]);
    return {
      problem: [
        table === undefined ? "This server has no table yet." : `This server has no table ${table}. It has:`,
        links,
      ],
    };
  }
  const layouts = layoutsOf(health.tables[table]);
  const layout = searchParams.get("layout") ?? Object.keys(layouts)[0];
  if (Object.hasOwn(layouts, layout)) {
    const only = layouts[layout].only && (searchParams.get("only") ?? layouts[layout].only.values[0]);
    return only ? { table, layout, only } : { table, layout };
  }
  const links = Object.keys(layouts).map((name) => [name, forLayout(name)]);
  return { table, problem: [`Table ${table} has no layout ${layout}. It has:`, links] };
}

/** The switch: `onChoice(isBack)` is called when the user has chosen, or gone Back or Forward in the browser. */
export function makeSwitch(onChoice) {
  const choose = (change) => {
    history.pushState(null, "", changed(location.href, change));
    onChoice();
  };
  addEventListener("popstate", () => onChoice(true));
  const draw = (id, options, chosen, change) => {
    const set = document.getElementById(id);
    const text = JSON.stringify(options);
    if (set.dataset.options !== text) {
      set.dataset.options = text;
      for (const each of set.querySelectorAll("label")) each.remove();
      for (const [value, label] of options) {
        const [box, input] = [document.createElement("label"), document.createElement("input")];
        Object.assign(input, { type: "radio", name: id, value, onchange: () => choose(change(value)) });
        box.title = label;
        box.append(input, label);
        set.append(box);
      }
    }
    for (const input of set.querySelectorAll("input")) input.checked = input.value === chosen;
    set.hidden = options.length < 2;
  };
  return (health, { table, layout, only }) => {
    const tables = Object.entries(health.tables).map(([name, each]) => [name, labelOf(name, each)]);
    draw("tables", tables, table, forTable);
    const layouts = table ? Object.entries(layoutsOf(health.tables[table])) : [];
    draw(
      "layouts",
      layouts.map(([name, { label }]) => [name, label]),
      layout,
      forLayout,
    );
    const values = layout ? (layoutsOf(health.tables[table])[layout].only?.values ?? []) : [];
    draw(
      "only",
      values.map((value) => [value, value]),
      only,
      forOnly,
    );
    document.getElementById("buttons").hidden = !table;
  };
}
