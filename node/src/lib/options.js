/** Flags of the scripts, and what is said of wrong ones: one line, exit status 2. */

import fs from "node:fs";
import path from "node:path";
import tls from "node:tls";
import util from "node:util";
import { DEFAULT_DSN, InvalidDsn, parseDsn } from "./dsn.js";
import { splitName } from "./names.js";

const OLDEST_NODE = 20;
const { version: VERSION } = JSON.parse(fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

/** What is wrong with a flag's value. */
class WrongValue extends Error {}
const script = () => path.basename(process.argv[1]);

/** Prints one line and ends. */
export function exit(status, line) {
  process.stderr.write(`${script()}: ${line}\n`);
  process.exit(status);
}

const wrong = (line) => exit(2, `${line} (--help shows all flags)`);

// Parsers of a flag's value

const text = (value) => value;

const wholeNumber =
  (least, most = 10 ** 9) =>
  (value) => {
    if (/^\d{1,10}$/.test(value) && Number(value) >= least && Number(value) <= most) return Number(value);
    throw new WrongValue(`'${value}' is not a whole number from ${least} to ${most}`);
  };

const choice = (choices) => (value) => {
  if (choices.includes(value)) return value;
  throw new WrongValue(`invalid choice: '${value}' (choose from ${choices.join(", ")})`);
};

function durationS(value) {
  const [, number, unit] = /^(\d{1,6})([smhd])$/.exec(value) ?? [];
  if (Number(number)) return Number(number) * { s: 1, m: 60, h: 3600, d: 86_400 }[unit];
  throw new WrongValue(`'${value}' is not a time such as 30s, 10m, 2h or 1d`);
}

/** A database's name, taken as it is. */
function name(value) {
  if (value && value.length <= 64 && !/[`\p{C}]/u.test(value)) return value;
  throw new WrongValue(`'${value}' is not a name: 1 to 64 characters, none of them \``);
}

function origin(value) {
  if (/^https?:\/\/[^/?#@\s]+\/?$/.test(value)) return value.replace(/\/$/, "").toLowerCase();
  throw new WrongValue(`'${value}' is not an origin such as https://demo.example`);
}

function prefix(value) {
  if (/^(\/[\w.~-]+)*\/?$/.test(value)) return value.replace(/\/$/, "");
  throw new WrongValue(`'${value}' is not a path such as /demo`);
}

// Flags as [name, {value: how --help names it (none: a switch), parse, default, many, help}]

const ofDatabase = () => ({
  dsn: {
    value: "DSN",
    default: process.env.TDENGINE_DSN || DEFAULT_DSN,
    help: `default: $TDENGINE_DSN or ${DEFAULT_DSN}`,
  },
  "password-file": { value: "FILE", help: "holds the password for the DSN, which then needs none" },
  database: { value: "NAME", parse: name, help: "default: the DSN's, or else the dataset's own" },
});

const PRODUCER = (datasets) => ({
  dataset: {
    value: "NAME",
    parse: choice(datasets),
    default: "stocks",
    help: `${datasets.join(" or ")} (default: stocks)`,
  },
  ...ofDatabase(),
  "database-options": { value: "TEXT", default: "", help: "of CREATE DATABASE, as 'VGROUPS 3 REPLICA 3 KEEP 30d'" },
  interval: { value: "MS", parse: wholeNumber(0), default: 250, help: "between batches; 0: none (default: 250)" },
  rows: { value: "N", parse: wholeNumber(1), default: 250, help: "rows a batch (default: 250)" },
  batches: { value: "N", parse: wholeNumber(0), default: 0, help: "stop after N batches (default: 0, never)" },
  backlog: { value: "ROWS", parse: wholeNumber(1), default: 10 ** 6, help: "rows kept while away (default: 1000000)" },
  seed: { value: "N", parse: wholeNumber(0), help: "the same random values each time" },
  reset: { help: "drop the dataset's table first, with all its rows" },
});

const SERVER = (datasets) => ({
  dataset: {
    value: "NAME",
    parse: choice([...datasets, "all"]),
    help: `${datasets.join(", ")} or all (default: stocks)`,
  },
  table: { value: "DB.TABLE", many: true, help: "a table of your own; may be repeated" },
  ...ofDatabase(),
  source: {
    value: "poll",
    parse: choice(["poll"]),
    default: "poll",
    help: "rows are polled for; perspective_server.py knows subscribe, too",
  },
  interval: { value: "MS", parse: wholeNumber(10, 60_000), default: 250, help: "between polls (default: 250)" },
  limit: { value: "N", parse: wholeNumber(1, 10 ** 8), default: 20_000, help: "rows a table holds (default: 20000)" },
  history: { value: "TIME", parse: durationS, default: 0, help: "show rows from so long before the start, as 10m" },
  host: { value: "H", default: "127.0.0.1", help: "address to listen on (default: 127.0.0.1)" },
  port: { value: "P", parse: wholeNumber(0, 65_535), default: 8080, help: "default: 8080" },
  certfile: { value: "FILE", help: "certificate chain (PEM) to serve https:// and wss:// with" },
  keyfile: { value: "FILE", help: "its private key (PEM)" },
  prefix: { value: "/PATH", parse: prefix, default: "", help: "the path at which a proxy serves us, as /demo" },
  "allow-origin": { value: "ORIGIN", parse: origin, many: true, help: "pages that may connect, too" },
  "allow-host": { value: "NAME", many: true, help: "name by which a proxy calls us" },
  "no-file-origin": { help: "refuse pages opened from disk" },
  "max-viewers": { value: "N", parse: wholeNumber(0, 10 ** 5), default: 1000, help: "connections (default: 1000)" },
  "max-memory": {
    value: "MB",
    parse: wholeNumber(100, 10 ** 6),
    default: 1024,
    help: "of the process (default: 1024)",
  },
  "log-level": {
    value: "LEVEL",
    parse: choice(["debug", "info", "warning", "error"]),
    default: "info",
    help: "default: info",
  },
});

function helpOf(about, flags) {
  const lines = Object.entries(flags).map(([flag, { value, help }]) => [
    `  --${flag}${value ? ` ${value}` : ""}`,
    help,
  ]);
  const width = Math.max(...lines.map(([start]) => start.length)) + 2;
  const shown = lines.map(([start, help]) => `${start.padEnd(width)}${help}\n`).join("");
  return `usage: node ${script()} [flags]\n\n${about}\n\n${shown}  --version\n`;
}

/** The flags' values by name; ends with one line and status 2 for wrong ones, and after --help and --version. */
function parse(about, flags) {
  if (Number.parseInt(process.versions.node, 10) < OLDEST_NODE) {
    exit(1, `this is Node ${process.versions.node}, it needs ${OLDEST_NODE} or newer`);
  }
  const options = { help: { type: "boolean", short: "h" }, version: { type: "boolean" } };
  for (const [flag, { value, many }] of Object.entries(flags)) {
    options[flag] = { type: value ? "string" : "boolean", multiple: Boolean(many) };
  }
  const { values: given, tokens } = util.parseArgs({ options, strict: false, tokens: true });
  if (given.help || given.version) {
    process.stdout.write(given.version ? `${script()} ${VERSION}\n` : helpOf(about, flags));
    process.exit(0);
  }
  for (const { name: flag, value, inlineValue } of tokens.filter(({ name: flag }) => Object.hasOwn(options, flag))) {
    const isMissing = value === undefined || (!inlineValue && /^-(?!\d*$)/.test(value)); // another flag stands there
    if (options[flag].type === "string" && isMissing) wrong(`argument --${flag}: expected one argument`);
    if (options[flag].type === "boolean" && inlineValue)
      wrong(`argument --${flag}: ignored explicit argument '${value}'`);
  }
  const values = {};
  for (const [flag, { value, parse: parser = text, default: usual, many }] of Object.entries(flags)) {
    try {
      if (given[flag] === undefined) values[flag] = many ? [] : value ? usual : false;
      else values[flag] = many ? given[flag].map(parser) : value ? parser(given[flag]) : true;
    } catch (error) {
      if (!(error instanceof WrongValue)) throw error;
      wrong(`argument --${flag}: ${error.message}`);
    }
  }
  const unknown = tokens.filter(
    ({ kind, name: flag }) => kind === "positional" || (flag && !Object.hasOwn(options, flag)),
  );
  if (unknown.length)
    wrong(`unrecognized arguments: ${unknown.map(({ rawName, value }) => rawName ?? value).join(" ")}`);
  return values;
}

/** values.dsn as parseDsn's, values.database from it when it is not given. */
function checkDsn(values) {
  try {
    values.dsn = parseDsn(values.dsn, values["password-file"]);
    values.database ??= values.dsn.database && name(values.dsn.database);
  } catch (error) {
    if (!(error instanceof InvalidDsn || error instanceof WrongValue)) throw error;
    wrong(`--dsn: ${error.message}`);
  }
}

/** The producer's: dsn, dataset, database, interval, ... */
export function producerOptions(about, datasets) {
  const values = parse(about, PRODUCER(Object.keys(datasets)));
  checkDsn(values);
  if (values.backlog < values.rows) wrong("--backlog must hold at least one batch of --rows");
  values.database ||= datasets[values.dataset].database;
  return values;
}

/** The server's: dsn, tables as [{database, name, title, dataset, dates}], ...; datasets: such objects by name. */
export function serverOptions(about, datasets) {
  const values = parse(about, SERVER(Object.keys(datasets)));
  checkDsn(values);
  values.tls = readTls(values);
  const { dataset, table } = values;
  const chosen = dataset === "all" ? Object.keys(datasets) : dataset ? [dataset] : table.length ? [] : ["stocks"];
  values.tables = chosen.map((each) => {
    return { ...datasets[each], dataset: each, database: values.database || datasets[each].database };
  });
  let own;
  try {
    own = table.map((each) => splitName(each, values.database));
  } catch (error) {
    wrong(`--table: ${error.message}`);
  }
  own = own.filter((each, k) => own.findIndex((other) => String(other) === String(each)) === k);
  const titles = [...values.tables.map(({ title }) => title), ...own.map(([, each]) => each)];
  for (const [database, each] of own) {
    const isTwice = titles.filter((title) => title === each).length > 1;
    values.tables.push({ database, name: each, title: isTwice ? `${database}.${each}` : each });
  }
  return values;
}

/** {cert, key} of --certfile and --keyfile, or null. */
function readTls({ certfile, keyfile }) {
  if (!certfile && !keyfile) return null;
  if (!certfile) wrong("--keyfile belongs to a --certfile");
  try {
    const read = { cert: fs.readFileSync(certfile), key: fs.readFileSync(keyfile ?? certfile) };
    tls.createSecureContext(read);
    return read;
  } catch (error) {
    return wrong(`--certfile or --keyfile can't be used: ${error.message.split("\n")[0]}`);
  }
}
