import { chown, mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Programs } from "../postgres/programs.ts";
import { unprivilegedUser } from "../postgres/run-as.ts";
import { scratchServerFolder } from "../postgres/scratch-server.ts";
import { withSession } from "../postgres/session.ts";
import { readManifest } from "../repo/backups.ts";
import type { Manifest } from "../repo/manifest.ts";
import { restoreClusterFiles } from "../restore/cluster.ts";
import { verifyBackupFolder } from "../restore/combine.ts";
import { neededFiles } from "../restore/database-files.ts";
import { readRecoveryInventory } from "../restore/recovery-inventory.ts";
import { planRecovery } from "../restore/recovery-plan.ts";
import { recoveryRequest } from "../restore/recovery-request.ts";
import { superuserOf } from "../restore/scratch-databases.ts";
import { withRecoveredServer } from "../restore/scratch-recovery.ts";
import type { Verification } from "./verify.ts";

/**
 * Restores a base backup on this machine, runs pg_verifybackup on it, recovers it to consistency in a scratch server and
 * reads the catalogs of every database there. Gives what went wrong; a note says what was done.
 */
export async function verifyBaseDeep(verification: Verification): Promise<string[]> {
  const { backup, programsFor, report } = verification;
  const programs = await programsFor(Number.parseInt(backup.server.version, 10), { server: true });
  try {
    await restoreAndVerify(verification, programs);
    const databases = await recoverAndRead(verification, programs);
    const message = `${backup.id}: restored, verified by pg_verifybackup, recovered to consistency; catalogs of ${databases} databases read`;
    report({ type: "note", message });
    return [];
  } catch (error) {
    if (isPgkitError(error, ...problemsOfBackup)) return [error.message];
    throw error;
  }
}

const problemsOfBackup = [
  ...(["verification-failed", "tool-failed", "object-corrupt", "object-missing", "identity-wrong"] as const),
  ...(["backup-missing", "wal-gap", "wal-invalid", "target-not-reached", "postgres-failed"] as const),
];

async function restoreAndVerify(verification: Verification, programs: Programs): Promise<void> {
  const { repository, backup, jobs, clock, report, signal } = verification;
  const runAs = await unprivilegedUser();
  const folder = await scratchServerFolder();
  try {
    const place = join(folder, "restored");
    await mkdir(place, { mode: 0o700 });
    if (runAs !== undefined) await chown(place, runAs.uid, runAs.gid);
    const outside = (backup.base?.tablespaces ?? []).filter(({ location }) => location.startsWith("/"));
    const tablespaces = new Map(outside.map(({ oid }) => [oid, join(place, `tablespace-${oid}`)]));
    const chain = await chainOf(verification);
    const dataDir = join(place, "data");
    await restoreClusterFiles({
      ...{ repository, chain, dataDir, tablespaces, delta: false, runAs, jobs, programs, clock, report, signal },
    });
    await verifyBackupFolder(programs, dataDir, { backup: backup.id, runAs, signal });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function chainOf({ repository, backup, signal }: Verification): Promise<Manifest[]> {
  const chain = [backup];
  for (let parent = backup.parent; parent !== undefined; parent = chain[0]?.parent) {
    chain.unshift(await readManifest(repository, { instance: backup.instance, id: parent }, { signal }));
  }
  return chain;
}

async function recoverAndRead(verification: Verification, programs: Programs): Promise<number> {
  const { repository, backup, jobs, clock, report, signal } = verification;
  const inventory = await readRecoveryInventory(repository, backup.instance, { report, signal });
  const plan = planRecovery(inventory, recoveryRequest({ immediate: true, backup: backup.id, timeline: "current" }));
  const files = neededFiles(plan.backup.base, { oids: [], whole: true });
  const recovery = { repository, plan, programs, files, libraries: [], parent: tmpdir(), jobs, clock, report, signal };
  return withRecoveredServer(recovery, async ({ connection: server }) => {
    const { connection } = await superuserOf(server, ["postgres"], signal);
    const databases = await withSession(connection, { signal }, (session) =>
      session.query<{ name: string }>(
        "SELECT datname AS name FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY 1",
      ),
    );
    for (const { name } of databases) {
      const [row] = await withSession(connection, { database: name, signal }, (session) =>
        session.query<{ relations: number }>(
          "SELECT count(*)::int AS relations FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid",
        ),
      );
      if ((row?.relations ?? 0) > 0) continue;
      throw new PgkitError("verification-failed", `the catalogs of database ${name} are empty after the recovery`);
    }
    return databases.length;
  });
}
