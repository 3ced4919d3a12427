/** Names and texts in SQL. */

const LONGEST_TOPIC = 64; // bytes: TDengine makes longer ones, up to 192, but no consumer can subscribe to them

/** A text as it stands in SQL. */
export function literal(text) {
  if (text.includes("\0")) throw new TypeError("SQL can't hold a NUL"); // TDengine would end the statement there
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

/** A name as it stands in SQL: taken as it is, whatever its characters. */
export const quoted = (name) => `\`${name}\``;

/** [database, table] of `DB.TABLE`; a part in back-quotes may hold dots. Error unless there are two parts. */
export function splitName(text, database) {
  const match = /^(?:(?:`([^`]+)`|([^`.]+))\.)?(?:`([^`]+)`|([^`]+))$/.exec(text);
  const first = match?.[1] ?? match?.[2] ?? database;
  if (!first) throw new Error(`'${text}' is not DB.TABLE (a name with a dot in back-quotes: 'factory.\`a.b\`')`);
  return [first, match[3] ?? match[4]];
}

/** The topic that Python's server makes on a table. */
export function topicOf(database, table) {
  const topic = Buffer.from(`perspective_${database}_${table}`);
  if (!database.includes("_") && topic.length <= LONGEST_TOPIC) return String(topic);
  const checksum = `_${crc32(`${database}.${table}`)}`; // a.b_c and a_b.c are two tables
  let end = Math.min(topic.length, LONGEST_TOPIC - checksum.length);
  while ((topic[end] & 0xc0) === 0x80) end--; // not within a character
  return topic.subarray(0, end) + checksum;
}

/** As zlib has it, which Node has only since 20.15. */
function crc32(text) {
  let crc = ~0;
  for (const byte of Buffer.from(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (~crc >>> 0).toString(16).padStart(8, "0");
}
