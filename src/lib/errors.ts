/** What can go wrong, each with its exit status (the contract's table) and one line for `docs/reference.md`. */
export const errorCodes = {
  bug: { exit: 1, doc: "a bug in pgkit; a stack is printed" },
  usage: { exit: 2, doc: "the command line cannot be understood" },
  config: { exit: 2, doc: "the configuration has an unknown key or a wrong value" },
  "partly-done": { exit: 3, doc: "some databases or repositories failed; each is named" },
  "repository-missing": { exit: 10, doc: "there is no repository there" },
  "backup-missing": { exit: 10, doc: "there is no such backup" },
  "object-missing": { exit: 10, doc: "the store said that this object is not there" },
  "database-missing": { exit: 10, doc: "there is no such database" },
  locked: { exit: 11, doc: "another run holds the lease" },
  "store-denied": { exit: 12, doc: "the store refused the credentials or the right" },
  "postgres-denied": { exit: 12, doc: "PostgreSQL refused the password or the privilege" },
  "store-unreachable": { exit: 13, doc: "the store does not answer, or its name, certificate or clock is wrong" },
  "store-failed": { exit: 13, doc: "the store answered with an error, or cut a stream" },
  "store-full": { exit: 13, doc: "no space is left in the store" },
  "store-unsupported": { exit: 13, doc: "the store does not keep a promise that this needs" },
  "condition-failed": { exit: 13, doc: "the object is there already, or was changed by another" },
  "postgres-unreachable": { exit: 14, doc: "PostgreSQL does not answer" },
  "object-corrupt": { exit: 40, doc: "stored bytes are not the bytes that were written" },
  "manifest-corrupt": { exit: 40, doc: "a manifest cannot be read" },
  "format-unsupported": { exit: 2, doc: "the repository was written by a newer pgkit" },
  "identity-wrong": { exit: 12, doc: "none of the age identities opens this backup" },
  "identity-required": { exit: 2, doc: "the backup is encrypted and no age identity is configured" },
  "refused-overwrite": { exit: 21, doc: "something is there that would be overwritten" },
  "system-mismatch": { exit: 21, doc: "the server is not the one that the repository knows by this name" },
  "tool-missing": { exit: 30, doc: "a program is not installed, or not in the server's major" },
  "tool-failed": { exit: 30, doc: "a PostgreSQL program failed" },
  "postgres-failed": { exit: 30, doc: "PostgreSQL answered a statement with an error" },
  "disk-full": { exit: 30, doc: "no space is left on a local disk" },
  "verification-failed": { exit: 40, doc: "what was read back or restored differs from what was recorded" },
  "check-failed": { exit: 40, doc: "`pgkit check` found something that would break a backup" },
  "no-backup-for-target": { exit: 20, doc: "no base backup ends before the target of the restore" },
  "wal-gap": { exit: 20, doc: "WAL that the restore needs is not in the repository" },
  "timeline-unreachable": { exit: 20, doc: "the target's timeline does not descend from a base backup that is there" },
  "target-not-archived": { exit: 20, doc: "the target is later than all that is stored" },
  "target-not-reached": { exit: 20, doc: "recovery ended before the target of the restore" },
  "wal-conflict": {
    exit: 21,
    doc: "another content is stored under the name of this WAL file; it is never overwritten",
  },
  "wal-invalid": { exit: 40, doc: "a WAL file is not what its name says: wrong system, timeline, size or header" },
  "wal-missing": { exit: 40, doc: "the WAL of a base backup did not come to the repository" },
  "slot-lost": { exit: 40, doc: "the server has removed WAL that the streamer had not stored yet" },
  "page-corrupt": { exit: 40, doc: "the server found pages with wrong checksums while it sent a base backup" },
  "server-settings": { exit: 2, doc: "a setting of the server does not allow this" },
  "move-refused": { exit: 2, doc: "the move would lose or break something; said before anything was changed" },
  "move-missing": { exit: 10, doc: "no move of this database is under way" },
  "move-stopped": { exit: 50, doc: "a move stopped and can be resumed or rolled back" },
  "move-rolled-back": {
    exit: 50,
    doc: "a move went back by itself, since the application did not become ready; it is where it was, with all it wrote",
  },
  "restore-refused": {
    exit: 2,
    doc: "a restore in Kubernetes would fail or lose something; said before anything was changed",
  },
  "restore-missing": { exit: 10, doc: "no restore of this instance in Kubernetes is under way" },
  "restore-stopped": { exit: 50, doc: "a restore in Kubernetes stopped and can be resumed or rolled back" },
  "switch-conflict": { exit: 50, doc: "what points an application at its database was changed by somebody else" },
  "switch-denied": { exit: 12, doc: "what points an application at its database refused the password or the right" },
  "switch-unreachable": { exit: 14, doc: "what points an application at its database does not answer" },
  "switch-failed": { exit: 30, doc: "what points an application at its database could not be read or changed" },
  "not-ready": { exit: 30, doc: "what was restarted for a switch did not become ready in time" },
  "proof-failed": { exit: 40, doc: "source and target of a move differ" },
  "kube-denied": { exit: 12, doc: "Kubernetes refused the token or the right; the missing rule is named" },
  "kube-unreachable": { exit: 13, doc: "the Kubernetes API does not answer" },
  "kube-conflict": { exit: 13, doc: "the object was changed by somebody else meanwhile" },
  "kube-missing": { exit: 10, doc: "there is no such object in Kubernetes" },
  "kube-failed": { exit: 13, doc: "the Kubernetes API answered with an error, or a workload did not become ready" },
  cancelled: { exit: 130, doc: "stopped by a signal" },
} as const;

export type ErrorCode = keyof typeof errorCodes;

/**
 * The one error pgkit throws on purpose: a code, a message in lower case that names the object, and a hint that is an
 * action or a question. The cause is kept for `--verbose`. Neither may hold a secret.
 */
export class PgkitError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "PgkitError";
    this.code = code;
    this.hint = options.hint;
  }

  get exitStatus(): number {
    return errorCodes[this.code].exit;
  }
}

/** True when `error` is a PgkitError with one of these codes; with no codes, when it is a PgkitError at all. */
export function isPgkitError(error: unknown, ...codes: ErrorCode[]): error is PgkitError {
  return error instanceof PgkitError && (codes.length === 0 || codes.includes(error.code));
}
