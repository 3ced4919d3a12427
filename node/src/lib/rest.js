/** TDengine's REST interface: one statement, and its rows. */

const ANSWER_MS = 6000; // an answer that takes longer does not come any more
const MAX_ANSWER = 512 * 1024 * 1024; // bytes

/** What TDengine answered, or that it could not be reached: `code` as "0x2603" or "", `away` when unreachable. */
export class TDengineError extends Error {
  constructor(code, message) {
    super(code ? `[${code}] ${message}` : message);
    this.code = code;
    this.away = code === "";
  }
}

/** TDengine answered, with values that REST can't hold. */
export class UnansweredError extends TDengineError {
  constructor() {
    super("", "an empty answer: there is a value that is no number");
    this.away = false;
  }
}

/**
 * The rows that TDengine answers, as arrays; whole numbers of 16 digits and more as texts, which hold them exactly.
 *
 * dsn: of parseDsn. TDengineError when it fails, after ANSWER_MS at the latest. Another client for TDengine would be
 * called in here.
 */
export async function query(dsn, sql) {
  let status, text;
  try {
    [status, text] = await post(dsn, sql);
  } catch (error) {
    dsn.at = (dsn.at + 1) % dsn.hosts.length; // the next host may answer
    const why = error.name === "AbortError" ? `no answer within ${ANSWER_MS / 1000} s` : error.code || error.message;
    throw new TDengineError("", dsn.hide(explained(why, error)));
  }
  let answer;
  try {
    answer = JSON.parse(text.replace(LONG_NUMBERS, (found) => (found[0] === '"' ? found : `"${found}"`)));
  } catch {
    if (status === 200 && !text) throw new UnansweredError(); // taosAdapter's JSON can't hold NaN
    throw new TDengineError(status === 401 ? "0x0357" : "", `HTTP status ${status} and no JSON`);
  }
  if (answer?.code === 0 && Array.isArray(answer.data)) return answer.data;
  const code = status === 401 ? 0x0357 : Number(answer?.code);
  const words = dsn.hide(String(answer?.desc ?? `HTTP status ${status}`));
  throw new TDengineError(code ? `0x${(code & 0xffff).toString(16).toUpperCase().padStart(4, "0")}` : "", words);
}

const LONG_NUMBERS = /"(?:[^"\\]|\\.)*"|(?<![\d.])-?\d{16,}(?![\d.eE])/g; // and texts, in which digits are left alone

const explained = (why, { code = "", message }) =>
  /CERT|SIGN|TLS|SSL|ALTNAME/.test(code) ? `tls_ca: ${message}` : why;

/** [HTTP status, body] of one POST; a connection that the server had closed meanwhile is not used again. */
async function post(dsn, sql, signal = AbortSignal.timeout(ANSWER_MS)) {
  try {
    return await postOnce(dsn, sql, signal);
  } catch (error) {
    if (error.code === "ECONNRESET" && error.reused) return postOnce(dsn, sql, signal);
    throw error;
  }
}

function postOnce({ request: send, hosts, at, agent, authorization }, sql, signal) {
  return new Promise((resolve, reject) => {
    const request = send({ ...hosts[at], method: "POST", agent, signal, headers: { authorization } }, (response) => {
      const chunks = [];
      let size = 0;
      response.on("data", (chunk) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > MAX_ANSWER) request.destroy(new Error("an answer of more than 512 MB"));
      });
      response.on("end", () => resolve([response.statusCode, Buffer.concat(chunks).toString("utf8")]));
      response.on("error", reject);
    });
    request.on("error", (error) => reject(Object.assign(error, { reused: request.reusedSocket })));
    request.end(sql);
  });
}
