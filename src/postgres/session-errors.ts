import { type ErrorCode, PgkitError } from "../lib/errors.ts";

/** An error that PostgreSQL itself sent, with its SQLSTATE. */
export function isServerError(error: unknown): error is Error & { code: string; severity: string; hint?: string } {
  return error instanceof Error && "severity" in error && "code" in error && typeof error.code === "string";
}

/** What the driver threw, as a PgkitError. `where` names the database and the server. */
export function postgresError(error: unknown, where: string): unknown {
  if (error instanceof PgkitError) return error;
  if (!(error instanceof Error)) return error;
  if (isServerError(error)) return fromServer(error, where);
  if (/client password must be a/.test(error.message)) {
    return new PgkitError("postgres-denied", `${where} wants a password, and none is configured`, {
      hint: "give it by passwordFrom, PGPASSWORD or a password file",
      cause: error,
    });
  }
  return new PgkitError("postgres-unreachable", `${where} does not answer: ${firstMessage(error)}`, {
    hint: hintFor(error),
    cause: error,
  });
}

/** The SQLSTATE that PostgreSQL answered with; `undefined` where the error is not its answer. */
export function sqlStateOf(error: unknown): string | undefined {
  const cause = error instanceof PgkitError ? error.cause : error;
  return isServerError(cause) ? cause.code : undefined;
}

function fromServer(error: Error & { code: string; hint?: string }, where: string): PgkitError {
  const code = codeOf(error.code);
  const refused = code === "postgres-denied" || code === "database-missing";
  const message = `${where} ${refused ? "refused" : "answered"}: ${error.message}`;
  const own = hintsByMessage.find(([pattern]) => pattern.test(error.message))?.[1];
  const hint = own ?? error.hint ?? serverHints[code];
  return new PgkitError(code, message, {
    hint: hint ?? "see the server's log",
    cause: error,
  });
}

/** SQLSTATE to code: https://www.postgresql.org/docs/current/errcodes-appendix.html */
function codeOf(sqlState: string): ErrorCode {
  if (sqlState.startsWith("28") || sqlState === "42501") return "postgres-denied";
  if (sqlState === "3D000") return "database-missing";
  if (sqlState.startsWith("08") || sqlState.startsWith("57P") || sqlState === "53300") return "postgres-unreachable";
  if (sqlState === "53100") return "disk-full";
  return "postgres-failed";
}

const hintsByMessage: readonly [RegExp, string][] = [
  [/pg_hba\.conf/, "let this host, user and database in by a line of the server's pg_hba.conf, and reload it"],
  // PostgreSQL's own hint would switch the policies off.
  [/row-level security/, "give the user BYPASSRLS, or run it as a superuser: a backup must see every row"],
];

const serverHints: Partial<Record<ErrorCode, string>> = {
  "postgres-denied":
    "check the user, its password (passwordFrom) and its privileges; pgkit check names what is missing",
  "database-missing": "pgkit check shows the instance's databases; is the name spelled as PostgreSQL has it?",
  "postgres-unreachable": "is the server starting, stopping or out of connections?",
  "disk-full": "free space on the server's disk, then run it again",
};

/** What the driver says where the server answered its request for TLS with a no. */
export function saysNoTls(error: unknown): boolean {
  return error instanceof Error && /does not support SSL/i.test(error.message);
}

function hintFor(error: Error): string {
  const text = firstMessage(error);
  if (/ENOTFOUND|EAI_AGAIN/.test(text)) return "is the host name right, and does it resolve from here?";
  if (/its certificate is for/.test(text)) return "use a name of the certificate as host, or sslmode=verify-ca";
  if (/certificate|self.signed/i.test(text))
    return "set sslrootcert in the URL to the CA that signed the server's certificate";
  if (saysNoTls(error)) return "the server has no TLS: set sslmode=prefer or disable in the URL";
  return "is the server running, and do host, port and firewall let you through?";
}

/** Node puts the reasons of a refused connection to several addresses into an AggregateError with an empty message. */
function firstMessage(error: Error): string {
  if (error instanceof AggregateError) return error.errors.map(String).join("; ");
  return error.message;
}
