import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import type { SignalOption } from "../store/store.ts";
import { putAbsent } from "./absent.ts";
import { auditKey, auditPrefix } from "./layout.ts";
import { type Repository, type RepositoryReader, readObject } from "./repository.ts";

/** Found out by `main`: this module asks no system who is there. */
export interface AuditActor {
  /** The user, such as `postgres` or the name of a Kubernetes service account. */
  who: string;
  from: { host: string; pid: number };
}

export interface AuditedWork extends SignalOption {
  clock: Clock;
  actor: AuditActor;
  /** `prune`, `keep`, `restore`, `move`. */
  command: string;
  /** What it is done to: a backup, a database, an instance. */
  subject: string;
  /** Plain values worth keeping, such as the target of a restore; never a secret. */
  details?: Record<string, unknown>;
  /** False where the work must go on although nothing can be recorded: a restore with read-only credentials. */
  required?: boolean;
  report: Report;
}

const AuditRecord = v.object({
  format: v.literal(1),
  /** The same in the two records of one piece of work. */
  operation: v.string(),
  at: v.string(),
  who: v.string(),
  from: v.object({ host: v.string(), pid: v.number() }),
  command: v.string(),
  subject: v.string(),
  /** Work with a record of its start alone was killed, or is still under way. */
  result: v.picklist(["started", "ok", "failed"]),
  error: v.optional(v.object({ code: v.string(), message: v.string() })),
  details: v.optional(v.record(v.string(), v.unknown())),
});

export type AuditRecord = v.InferOutput<typeof AuditRecord>;

/**
 * Records `run` twice: before it starts, as a run that is killed should not have done something that nobody can see, and
 * when it ends, with its result. Records are never overwritten. When the start cannot be recorded, `run` does not happen,
 * unless `required` is false. `run` may give details to add to the record of its end.
 */
export async function withAudit<T>(
  repository: Repository,
  work: AuditedWork,
  run: (addDetails: (details: Record<string, unknown>) => void) => Promise<T>,
): Promise<T> {
  const operation = randomUUID();
  const details = { ...work.details };
  await recordStart(repository, work, { operation, details });
  try {
    const result = await run((more) => Object.assign(details, more));
    await recordEnd(repository, work, { operation, details, result: "ok" });
    return result;
  } catch (error) {
    await recordEnd(repository, work, { operation, details, result: "failed", error: describe(error) });
    throw error;
  }
}

/** All records since that moment, oldest first. Fails with `manifest-corrupt` on one that cannot be read. */
export async function* listAudit(
  repository: RepositoryReader,
  { since, signal }: SignalOption & { since?: Date | undefined } = {},
): AsyncGenerator<AuditRecord> {
  const after = since === undefined ? undefined : auditKey(since, "");
  for await (const { key } of repository.store.list(auditPrefix, { after, signal })) {
    const text = await readObject(repository.store, key, { signal });
    const result = v.safeParse(v.pipe(v.string(), v.parseJson(), AuditRecord), text);
    if (!result.success) {
      throw new PgkitError("manifest-corrupt", `${key} in ${repository.where} is not an audit record`, {
        hint: "it was cut or changed after it was written; who can write to the repository?",
      });
    }
    yield result.output;
  }
}

type Outcome = Pick<AuditRecord, "operation" | "result" | "error" | "details">;

async function recordStart(repository: Repository, work: AuditedWork, outcome: Omit<Outcome, "result">): Promise<void> {
  try {
    await store(repository, work, { ...outcome, result: "started" }, work.signal);
  } catch (error) {
    if (work.required !== false || !isPgkitError(error) || work.signal?.aborted === true) throw error;
    warn(work, error);
  }
}

/** How long the record of the end may take: whoever stops a run on a store that keeps silent wants to see it end. */
const recordEndMs = 5_000;

/** Also after a signal, so it takes none. The work is done by now: that it could not be recorded is said, not thrown. */
async function recordEnd(repository: Repository, work: AuditedWork, outcome: Outcome): Promise<void> {
  try {
    await store(repository, work, outcome, AbortSignal.timeout(recordEndMs));
  } catch (error) {
    warn(work, error);
  }
}

async function store(
  repository: Repository,
  { clock, actor, command, subject }: AuditedWork,
  { operation, result, error, details = {} }: Outcome,
  signal?: AbortSignal,
): Promise<void> {
  const now = clock.now();
  const record: AuditRecord = {
    format: 1,
    operation,
    at: rfc3339(now),
    who: actor.who,
    from: { host: actor.from.host, pid: actor.from.pid },
    command,
    subject,
    result,
    ...(error === undefined ? {} : { error }),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
  const key = auditKey(now, `${operation}-${result === "started" ? "1-start" : "2-end"}`);
  await putAbsent(repository.store, key, Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`), { signal });
}

function describe(error: unknown): { code: string; message: string } {
  if (isPgkitError(error)) return { code: error.code, message: error.message };
  return { code: "bug", message: error instanceof Error ? error.message : String(error) };
}

function warn({ report, command, subject }: AuditedWork, error: unknown): void {
  const said = error instanceof Error ? error.message : String(error);
  const message = `${command} of ${subject} is missing in the audit record: ${said}`;
  report({ type: "warning", message, hint: "may these credentials write to the repository's audit/ folder?" });
}
