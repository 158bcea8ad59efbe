import { backupLogical } from "../backup/logical.ts";
import { formatBytes, formatDuration } from "../lib/parse.ts";
import { withAudit } from "../repo/audit.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RestoreResult } from "../restore/database.ts";
import { newestBackup, prepareRestore } from "../restore/logical.ts";
import type { RestoreRequest } from "../restore/plan.ts";
import { applications } from "./applications.ts";
import { disaster, fill, logIn } from "./disaster.ts";
import { type Fingerprint, fingerprint } from "./fingerprint.ts";
import { type MomentOutcome, tellMoment } from "./moment.ts";
import { backUpInto, type DemoWorld, demoInstance, notProven } from "./world.ts";

export interface DemoOutcome {
  backups: Manifest[];
  proof: { database: string; before: Fingerprint; after: Fingerprint }[];
  /** Of one database, brought back to one second before a disaster. */
  moment: MomentOutcome;
}

/**
 * Fills three databases, backs them up, destroys two, and restores them by the same use cases as the commands; then archives
 * continuously, and brings one back to a moment. Fails with `verification-failed` when anything is not as it was.
 */
export async function tellStory(world: DemoWorld): Promise<DemoOutcome> {
  const { say } = world;
  say(
    `\n1. A shared instance: PostgreSQL ${world.programs.version}, with a database and an owner for each application`,
  );
  await fill(world);
  const before = await fingerprints(world);
  for (const [database, { tables, rows }] of before) say(`   ${database.padEnd(9)} ${tables} tables, ${rows} rows`);
  say("\n2. Backup of every database:  pgkit backup logical");
  const backups = await backUp(world);
  say("\n3. A disaster");
  for (const line of await disaster(world)) say(`   ${line}`);
  say(`\n4. The table comes back:  pgkit restore litellm --table ${lostTable}`);
  await restore(world, "litellm", [lostTable]);
  say("\n5. The database comes back, with its owner:  pgkit restore n8n");
  await restore(world, "n8n", []);
  await logIn(world, "n8n");
  say("   n8n_user logs in with the password it had");
  const proof = proven(before, await fingerprints(world));
  return { backups, proof, moment: await tellMoment(world) };
}

const lostTable = "public.LiteLLM_SpendLogs";

async function fingerprints({ connection, signal }: DemoWorld): Promise<Map<string, Fingerprint>> {
  const found = new Map<string, Fingerprint>();
  for (const { database } of applications) found.set(database, await fingerprint(connection, database, signal));
  return found;
}

async function backUp(world: DemoWorld): Promise<Manifest[]> {
  const { connection, say } = world;
  const request = {
    ...{ instance: demoInstance, connection, databases: [], include: undefined, exclude: ["postgres"] },
    ...{ connections: 4, jobs: 2, wholeBelowBytes: 256 * 1024 * 1024, countRows: true },
  };
  const made = await backUpInto(world, (places, dependencies) => backupLogical(request, places, dependencies));
  const manifests = made.map(({ manifest }) => manifest).toSorted((a, b) => a.id.localeCompare(b.id));
  for (const { database = "", logical, storedBytes, proof } of manifests) {
    const proven = proof === "read-back" ? "every byte read back" : "every byte proven by the store's checksum";
    say(
      `   ${database.padEnd(9)} ${formatBytes(logical?.sizeBytes ?? 0)} on disk, ${formatBytes(storedBytes)} stored, ${proven}`,
    );
  }
  return manifests;
}

async function restore(world: DemoWorld, database: string, tables: string[]): Promise<RestoreResult> {
  const { repository, connection, programs, actor, clock, report, say, signal } = world;
  const startedMs = clock.monotonicMs();
  const backup = await newestBackup(repository, { instance: demoInstance, database, signal });
  const request: RestoreRequest = { replace: false, tables, schemaOnly: false, jobs: 2, updateRoles: false };
  const { plan, run } = await prepareRestore({
    ...{ repository, backup, request, instance: demoInstance, connection, clock, report, signal },
    programsFor: () => Promise.resolve(programs),
  });
  const subject = `${demoInstance}/${database}`;
  const details = { backup: backup.id, to: plan.to };
  const work = { clock, report, signal, actor, command: "restore", subject, details };
  const result = await withAudit(repository, work, run);
  if (result.notRestored.length > 0) throw notProven(`${database}: ${result.notRestored.join("; ")}`);
  const seconds = formatDuration(clock.monotonicMs() - startedMs);
  say(`   loaded beside the others, compared with the backup (${result.rows} rows), put in place: ${seconds}`);
  return result;
}

function proven(before: Map<string, Fingerprint>, after: Map<string, Fingerprint>): DemoOutcome["proof"] {
  return [...before].map(([database, then]) => {
    const now = after.get(database);
    if (now === undefined || now.hash !== then.hash) throw notProven(`${database} is not what it was`);
    return { database, before: then, after: now };
  });
}
