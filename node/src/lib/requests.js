/**
 * What a viewer may request, by Perspective's protocol: to look at tables and views, and nothing else.
 *
 *     const request = parse(message);   // Refused: what no viewer of ours sends
 *
 * Only what the messages in perspective.proto declare is handed on: everything else in a message is dropped.
 */

import { createHash } from "node:crypto";
import url from "node:url";
import protobuf from "protobufjs";

const PROTO = url.fileURLToPath(new URL("../../../bridge/perspective.proto", import.meta.url)); // the same as Python's
export const MAX_MESSAGE = 64 * 1024; // bytes of one request, with everything that is dropped
const MAX_CONTENT = 16 * 1024; // bytes of what is in it, as a view's config: both and more for a view of a wide table
export const LONGEST = 256 * 1024; // bytes of any message

/** Perspective's messages by name, as pb("Envelope"). */
export const pb = (name) => types.lookup(`bridge.${name}`);
const types = new protobuf.Root().loadSync(PROTO, { keepCase: true });
export const COLUMN_TYPES = pb("ColumnType").values; // {STRING: 0, ...}
const Envelope = pb("Envelope");
const ENVELOPE_KINDS = Envelope.oneofs.kind.oneof;

// The kinds, with what is in them
const withType = (type, ...kinds) => Object.fromEntries(kinds.map((kind) => [kind, pb(type)]));
export const READS = {
  ...withType("ReadText", "view_to_columns_string", "view_to_rows_string", "view_to_ndjson_string"),
  ...withType("ReadCsv", "view_to_csv"),
  ...withType("ReadArrow", "view_to_arrow"),
};
export const TOGGLES = { ...withType("Row", "view_collapse", "view_expand"), ...withType("Depth", "view_set_depth") };
export const SUBSCRIBE = {
  ...withType("OnUpdate", "view_on_update"),
  ...withType("Nothing", "view_on_delete", "view_on_remove", "table_on_delete"),
};
export const UNSUBSCRIBE = withType(
  "Subscription",
  "view_remove_on_update",
  "view_remove_delete",
  "view_remove_on_remove",
  "table_remove_delete",
  "remove_hosted_tables_update",
);
const OF_VIEWS = {
  ...withType("ColumnPaths", "view_column_paths"),
  ...withType("Column", "view_get_min_max"),
  ...withType("Nothing", "view_delete", "view_dimensions", "view_expression_schema", "view_get_config", "view_schema"),
};
export const KINDS = {
  ...withType("HostedTables", "get_hosted_tables"),
  ...withType("MakeView", "table_make_view"),
  ...withType("Expressions", "table_validate_expr"),
  ...withType("Nothing", "get_features", "server_system_info", "table_make_port", "table_schema", "table_size"),
  ...READS,
  ...TOGGLES,
  ...SUBSCRIBE,
  ...UNSUBSCRIBE,
  ...OF_VIEWS,
};

/** What no viewer of ours sends: the connection is closed. */
export class Refused extends Error {}

/** Why a request can't be answered, in words for the user who made it; the connection stays. */
export class Invalid extends Error {}

/** A request about a view that the viewer doesn't have. */
export class ViewNotFound extends Invalid {}

/** Texts that are not UTF-8 are errors. */
class StrictReader extends protobuf.BufferReader {
  string() {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.bytes());
  }
}

/** A message of this type in bytes; Error when it is none. */
export function decode(type, bytes) {
  return type.decode(new StrictReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)));
}

/**
 * {number, kind, entity, content, body} of a message: content as declared, body as bytes without all else.
 *
 * room: bytes that it may have beyond MAX_MESSAGE.
 */
export function parse(message, room = 0) {
  if (message.length > MAX_MESSAGE + room) throw new Refused(`a request of more than ${MAX_MESSAGE + room} bytes`);
  let envelope, kinds, content;
  try {
    envelope = decode(Envelope, message);
    kinds = ENVELOPE_KINDS.filter((kind) => Object.hasOwn(envelope, kind));
    content = kinds.length === 1 && Object.hasOwn(KINDS, kinds[0]) ? decode(KINDS[kinds[0]], envelope[kinds[0]]) : null;
  } catch {
    throw new Refused("not a request of Perspective's");
  }
  if (content === null) throw new Refused("a request of a kind that viewers don't send");
  const { msg_id: number, entity_id: entity } = envelope;
  return { number, kind: kinds[0], entity, content, body: encode(content) };
}

/** The table of a message of more than MAX_MESSAGE bytes, which only what makes a view of a wide one may have. */
export function wideTable(message) {
  let envelope;
  try {
    envelope = decode(Envelope, message);
  } catch {
    throw new Refused("not a request of Perspective's");
  }
  if (!Object.hasOwn(envelope, "table_make_view")) throw new Refused(`a request of more than ${MAX_MESSAGE} bytes`);
  return envelope.entity_id;
}

/**
 * Bytes that a view of all columns may take to describe, by those of the answer to table_schema.
 *
 * The viewer names each column twice: as shown, and with its aggregate.
 */
export const roomOf = (schema) => 4 * schema.length;

/** Equal contents as equal bytes, whatever the order of maps was. */
export function encode(content) {
  return Buffer.from(content.$type.encode(sorted(content)).finish());
}

/** A copy of a message whose maps are in the order of their keys. */
function sorted(message) {
  const copy = message.$type.create(message);
  const inner = (value) => (value?.$type ? sorted(value) : value);
  for (const { name, map } of message.$type.fieldsArray) {
    if (map) {
      const entries = Object.entries(copy[name]).sort(([a], [b]) => (a < b ? -1 : 1));
      copy[name] = Object.fromEntries(entries.map(([key, value]) => [key, inner(value)]));
    } else if (Object.hasOwn(copy, name)) copy[name] = inner(copy[name]);
  }
  return copy;
}

const encoded = (type, fields) => Buffer.from(type.encode(type.create(fields)).finish());

/** Bytes of a message of the type named, with these fields. */
export const make = (type, fields) => encoded(pb(type), fields);

/** The bytes of a request or response whose content is `body`, bytes. */
export const reply = (number, entity, kind, body) =>
  encoded(Envelope, { msg_id: number, entity_id: entity, [kind]: body });

/** The beginning of a response; the bytes of `tail` may follow. */
export const head = (number, entity) => encoded(Envelope, { msg_id: number, entity_id: entity });

/** The end of a response, the same for everyone who gets this answer. */
export const tail = (kind, body) => encoded(Envelope, { [kind]: body });

/** The tail of a response that says why there is no other; reason: an Invalid. */
export function errorTail(reason) {
  const { VIEW_NOT_FOUND, SERVER_ERROR } = pb("StatusCode").values;
  const status_code = reason instanceof ViewNotFound ? VIEW_NOT_FOUND : SERVER_ERROR;
  return tail("server_error", make("ServerError", { message: reason.message, status_code }));
}

/** {number, kind, body} of a response; kind "" when it has none. */
export function parseResponse(message) {
  const envelope = Envelope.decode(message);
  const kind = ENVELOPE_KINDS.find((each) => Object.hasOwn(envelope, each)) ?? "";
  return { number: envelope.msg_id, kind, body: kind ? envelope[kind] : Buffer.alloc(0) };
}

/** Identifies a request by its kind and what is in it, without numbers and names. */
export function digest(kind, ...parts) {
  const hash = createHash("sha256").update(kind);
  for (const part of parts) hash.update("\0").update(part);
  return hash.digest("hex");
}

/** What is worth a line in the log: expressions and filters. */
export function describe(content) {
  const config = content.config ?? content;
  const expressions = Object.values(config.expressions ?? config.column_to_expr ?? {});
  const filters = (config.filter ?? []).map(({ column, op }) => `${column} ${op}`);
  return [...expressions.map((text) => JSON.stringify(text)), ...filters].join("; ");
}

export const isLarge = (body) => body.length > MAX_CONTENT;

export function checkSize(body, room = 0) {
  if (body.length > MAX_CONTENT + room) {
    throw new Invalid(`This takes ${body.length} bytes to describe, more than ${MAX_CONTENT + room}.`);
  }
}
