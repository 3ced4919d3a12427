/** SIGINT and SIGTERM: until something else is done about them they end the script with status 0. */

let stop = () => process.exit(0);

// never removed: a signal that has come meanwhile would be lost with its listener
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => stop());

/** Calls this at a signal, instead of what was called before. */
export function onStop(what) {
  stop = what;
}
