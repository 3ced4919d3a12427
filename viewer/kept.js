// Layouts that the user has changed are kept, in this browser, until they are reset.

const PREFIX = "prsp-viewer/2"; // of layouts for Perspective 5
const inMemory = new Map(); // where the browser refuses localStorage, and until the page is closed

const keyOf = ({ table, layout, only }) => JSON.stringify([PREFIX, table, layout, ...(only ? [only] : [])]);

/** Drops the layouts that a version with another Perspective has kept: names of plugins and options differ. */
export function dropOld() {
  try {
    for (const key of Object.keys(localStorage)) if (/^prsp-viewer\//.test(key)) localStorage.removeItem(key);
  } catch {
    /* refused: nothing is kept then */
  }
}

/** Keeps a layout of a view {table, layout}; null forgets it. */
export function keep(view, config) {
  inMemory.set(keyOf(view), config);
  try {
    if (config) localStorage.setItem(keyOf(view), JSON.stringify(config));
    else localStorage.removeItem(keyOf(view));
  } catch {
    /* refused or full: kept as long as the page is open */
  }
}

/** The layout that was kept for a view, or null. */
export function kept(view) {
  if (inMemory.has(keyOf(view))) return inMemory.get(keyOf(view));
  try {
    const config = JSON.parse(localStorage.getItem(keyOf(view)));
    return Object(config) === config ? config : null;
  } catch {
    return null;
  }
}
