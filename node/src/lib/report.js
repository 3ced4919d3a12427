/** Lines for people on standard error; what can't be written there is not written, and work goes on. */

const LEVELS = ["debug", "info", "warning", "error"];
let least = "info";

for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {}); // a full disk, a closed pipe

/** A line on standard error; on a terminal it replaces the line that refreshes (end ""). */
export function say(text, end = "\n") {
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${text}${end}` : text + end);
}

export function setLevel(level) {
  least = level;
}

/** Log records, each in one line: what came from outside can't begin a line of its own. */
function write(level, text) {
  if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return;
  const when = new Date().toISOString().replace("T", " ").replace("Z", "").replace(".", ",");
  const escaped = (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`;
  say(`${when} ${level.toUpperCase()} ${text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, escaped)}`);
}

export const log = Object.fromEntries(LEVELS.map((level) => [level, (text) => write(level, String(text))]));
