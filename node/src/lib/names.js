/** Names and texts in SQL. */

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
