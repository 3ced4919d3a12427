/** Where TDengine is: splits and checks a DSN, hides secrets. */

import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import util from "node:util";

export const DEFAULT_DSN = "ws://root:taosdata@localhost:6041";
// as TDengine's documentation writes them; REST and WebSocket are on the same port
const SCHEMES = {
  ws: "ws",
  wss: "wss",
  http: "ws",
  https: "wss",
  taosws: "ws",
  taoswss: "wss",
  "taos+ws": "ws",
  "taos+wss": "wss",
  "taosws+ws": "ws",
  "taosws+wss": "wss",
};
const PARTS = /^([a-z+]+):\/\/(?:([^/?#@]*)@)?([^/?#@]+)(?:\/([^?#@]*))?(?:\?([^#@]*))?$/;
const HOST = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?$/;
// of OpenSSL's variable, Debian, Red Hat and macOS; without one Node's own
const SYSTEM_CAS = [process.env.SSL_CERT_FILE, "/etc/ssl/certs/ca-certificates.crt"];
SYSTEM_CAS.push("/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem");
const INVALID = "not a DSN: one looks like ws://USER:PASSWORD@HOST:6041 (special characters in a password as %XX)";

/** A DSN that can't be used; its text is one line that shows nothing of the DSN. */
export class InvalidDsn extends Error {}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidDsn(INVALID);
  }
}

/** What the system says of a file that can't be read. */
const reasonOf = ({ errno, code }) => util.getSystemErrorMap().get(errno)?.[1] ?? code;

function readPassword(file) {
  try {
    return fs.readFileSync(file, "utf8").replace(/[\r\n]+$/, "");
  } catch (error) {
    throw new InvalidDsn(`can't read the password file ${file}: ${reasonOf(error)}`);
  }
}

/**
 * {hosts: [{hostname, port, path}], at, request, agent, authorization, shown, database, hide(text)} of a DSN.
 *
 * request is http.request or https.request; `at` is the host in use, of several. InvalidDsn when it can't be used.
 * Checked before anything is shown: with a "#" or "/" in a password its first half would pass for the host.
 */
export function parseDsn(text, passwordFile) {
  const parts = PARTS.exec(text);
  const matches = (parts?.[3] ?? "").split(",").map((host) => HOST.exec(host));
  const isValid = matches.every((match) => match && (match[2] === undefined || (match[2] > 0 && match[2] < 65_536)));
  if (!parts || !Object.hasOwn(SCHEMES, parts[1]) || !isValid) throw new InvalidDsn(INVALID);
  const [, scheme, login = "", hosts, database = "", query = ""] = parts;
  const isSafe = SCHEMES[scheme] === "wss";
  const [user, ...rest] = login.split(":");
  const given = rest.length ? decoded(rest.join(":")) : "taosdata";
  const password = passwordFile ? readPassword(passwordFile) : given;
  const parameters = new URLSearchParams(query);
  const token = parameters.get("token"); // of TDengine Cloud
  const path = `/rest/sql${token ? `?${new URLSearchParams({ token })}` : ""}`;
  const secrets = [rest.join(":"), given, password, encodeURIComponent(password)];
  for (const [name, value] of parameters) if (/token|pass/.test(name)) secrets.push(value);
  const hidden = [...new Set(secrets)].filter((secret) => secret.length > 2).sort((a, b) => b.length - a.length);
  return {
    hosts: matches.map(([, hostname, port = isSafe ? 443 : 6041]) => {
      return { hostname: hostname.replace(/^\[|\]$/g, ""), port: Number(port), path };
    }),
    at: 0,
    request: isSafe ? https.request : http.request,
    agent: isSafe
      ? new https.Agent({ keepAlive: true, ...tlsOptions(parameters) })
      : new http.Agent({ keepAlive: true }),
    authorization: `Basic ${Buffer.from(`${decoded(user) || "root"}:${password}`).toString("base64")}`,
    shown: `${SCHEMES[scheme]}://${hosts}`,
    database: decoded(database.replace(/^\/+|\/+$/g, "")),
    /** The text in one line, without the password or token. */
    hide(line) {
      const shown = hidden.reduce((found, secret) => found.replaceAll(secret, "***"), line);
      return shown.split(/\s+/).join(" ").trim();
    },
  };
}

/** Certificates are checked unless the DSN says tls_mode=none; tls_ca names the file of a CA, else the system's count. */
function tlsOptions(parameters) {
  const options = { rejectUnauthorized: parameters.get("tls_mode") !== "none" };
  if (parameters.get("tls_mode") === "verify_ca") options.checkServerIdentity = () => undefined;
  const file = parameters.get("tls_ca") || SYSTEM_CAS.find((each) => each && fs.existsSync(each));
  if (!file) return options;
  try {
    return { ...options, ca: fs.readFileSync(file) };
  } catch (error) {
    throw new InvalidDsn(`can't read the file that tls_ca names: ${reasonOf(error)}`);
  }
}
