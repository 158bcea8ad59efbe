import { PgkitError } from "../lib/errors.ts";

/**
 * `store-unreachable` with a hint for what the sockets, name service and TLS of Node report; undefined for any other
 * error. `where` begins the message; `cause` is kept in place of `error`, which may carry headers.
 */
export function networkError(error: unknown, where: string, cause: unknown): PgkitError | undefined {
  for (const code of codesOf(error)) {
    const hint = hints[code] ?? (code.startsWith("ERR_SSL_") ? hints["EPROTO"] : undefined);
    if (hint !== undefined)
      return new PgkitError("store-unreachable", `${where}: ${reason(error, code)}`, { hint, cause });
  }
  return undefined;
}

const missingCa = "who signed its certificate is not known here: set storage.caFile to the authority's certificate";

const hints: Record<string, string> = {
  ECONNREFUSED: "does the server run, and is the port right?",
  ECONNRESET: "the server or something between closed the connection: is it http or https?",
  EPIPE: "the server or something between closed the connection",
  ETIMEDOUT: "the server did not answer in time: is the address right, and does a firewall let it through?",
  ESOCKETTIMEDOUT: "the server did not answer in time",
  TimeoutError: "the server did not answer in time: is the address right, and does a firewall let it through?",
  EHOSTUNREACH: "no route leads there",
  ENETUNREACH: "no route leads there",
  ENOTFOUND: "the name is not known: is the endpoint spelled right, and should it be path style?",
  EAI_AGAIN: "the name service does not answer",
  EPROTO: "the server does not speak TLS on this port: should it be http, not https?",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: missingCa,
  UNABLE_TO_GET_ISSUER_CERT: missingCa,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: missingCa,
  SELF_SIGNED_CERT_IN_CHAIN: missingCa,
  DEPTH_ZERO_SELF_SIGNED_CERT: missingCa,
  ERR_TLS_CERT_ALTNAME_INVALID: "the certificate is for another host name: use that name in the endpoint",
  CERT_HAS_EXPIRED: "the server's certificate has expired, or this machine's clock is wrong",
  CERT_NOT_YET_VALID: "the server's certificate is not valid yet, or this machine's clock is wrong",
};

/** Codes of the error and of those inside it: happy-eyeballs connects fail as an AggregateError, SDKs wrap. */
function codesOf(error: unknown, depth = 0): string[] {
  if (!(error instanceof Error) || depth > 5) return [];
  const own = "code" in error && typeof error.code === "string" ? [error.code] : [];
  const inner = error instanceof AggregateError ? error.errors.flatMap((one) => codesOf(one, depth + 1)) : [];
  return [...own, error.name, ...inner, ...codesOf(error.cause, depth + 1)];
}

function reason(error: unknown, code: string): string {
  const said = error instanceof Error ? error.message.replace(/^@smithy\/node-http-handler - /, "") : "";
  return said === "" ? code : said;
}
