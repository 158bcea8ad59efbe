import { hostname } from "node:os";
import { withDestinations } from "../backup/destinations.ts";
import { backupLogical } from "../backup/logical.ts";
import { PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import { verifyBackup } from "../prove/verify.ts";
import { newestManifest } from "../repo/backups.ts";
import { defaultLeaseMs } from "../repo/lease.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { MoveContext } from "./step.ts";

/** A backup of the source's database that was read back and is whole. */
export interface ProvenBackup {
  readonly id: string;
  readonly finishedAt: string;
  readonly storedBytes: number;
  /** It was there already. */
  readonly found: boolean;
}

/** The newest of the source's database that is not older than `maxAgeMs`, read back; `undefined` where none is whole. */
export async function findProvenBackup(context: MoveContext, maxAgeMs: number): Promise<ProvenBackup | undefined> {
  const { clock, move, repository, report, signal } = context;
  const { instance, systemId } = move.source;
  const manifest = await newestManifest(repository, { instance, database: move.database, signal });
  if (manifest === undefined || manifest.server.systemId !== systemId) return undefined;
  const ageMs = clock.now().getTime() - new Date(manifest.startedAt).getTime();
  if (ageMs > maxAgeMs) return undefined;
  const problems = await problemsOf(context, manifest);
  if (problems.length === 0) {
    report({
      type: "note",
      message: `backup ${manifest.id}, ${formatDuration(ageMs)} old, was read back and is whole`,
    });
    return provenOf(manifest, true);
  }
  report({ type: "warning", message: `backup ${manifest.id} is damaged, and does not count: ${problems.join("; ")}` });
  return undefined;
}

/** Backs the source's database up and reads that back. Fails with what failed, or with `verification-failed`. */
export async function takeProvenBackup(context: MoveContext): Promise<ProvenBackup> {
  const manifest = await backUp(context);
  const problems = await problemsOf(context, manifest);
  if (problems.length === 0) return provenOf(manifest, false);
  throw new PgkitError("verification-failed", `backup ${manifest.id} cannot be read back: ${problems.join("; ")}`, {
    hint: "is the repository's disk or network damaged? nothing of the database was changed",
  });
}

/** Connections that a backup may hold on the source. */
const backupConnections = 4;
const wholeBelowBytes = 1024 ** 3;

/** How long it waits for a backup of the instance that is under way. */
const leaseWaitMs = 10 * 60_000;

async function backUp(context: MoveContext): Promise<Manifest> {
  const { clock, move, report, signal, source, repository } = context;
  const holder = { host: hostname(), pid: process.pid, command: `move ${move.database}` };
  const lease = { clock, report, signal, holder, ttlMs: defaultLeaseMs, waitMs: leaseWaitMs };
  const opener = { where: repository.where, open: async () => repository };
  const options = { ...lease, withoutConditions: "proceed" as const };
  return withDestinations([opener], source.instance, options, async (destinations, [locked]) => {
    if (locked !== undefined) throw locked.error;
    const outcome = await backupLogical(
      {
        ...{ instance: source.instance, connection: source.connection, databases: [move.database] },
        ...{ include: undefined, exclude: [], connections: Math.max(backupConnections, move.options.jobs + 1) },
        ...{ jobs: move.options.jobs, wholeBelowBytes, countRows: true },
      },
      destinations,
      {
        programsFor: () => context.programs("source"),
        pgkitVersion: context.pgkitVersion ?? "unknown",
        ...{ clock, report, signal },
      },
    );
    const [failure] = outcome.failures;
    if (failure !== undefined) throw failure.error;
    const [made] = outcome.made;
    if (made !== undefined) return made.manifest;
    throw new PgkitError("verification-failed", `no backup of ${move.database} was made`, {
      hint: "is the database one that a DROP DATABASE has left half-way?",
    });
  });
}

async function problemsOf(context: MoveContext, backup: Manifest): Promise<string[]> {
  const { clock, repository, report, signal, move } = context;
  return verifyBackup({
    ...{ repository, backup, deep: false, jobs: move.options.jobs, clock, report, signal },
    programsFor: () => context.programs("source"),
  });
}

function provenOf({ id, finishedAt, storedBytes }: Manifest, found: boolean): ProvenBackup {
  return { id, finishedAt, storedBytes, found };
}
