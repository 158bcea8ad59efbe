import { PgkitError } from "../lib/errors.ts";
import { parseLsn } from "../lib/lsn.ts";
import { listBackups } from "../repo/backups.ts";
import { readDamage } from "../repo/damage.ts";
import { readSmallFile } from "../repo/files.ts";
import type { Manifest } from "../repo/manifest.ts";
import { nameOf } from "../repo/retention.ts";
import type { InstanceFacts } from "./base-facts.ts";
import { isAlive, type Target } from "./target.ts";

/** The backup that an incremental one builds on. */
export interface Parent {
  id: string;
  /** The server's list of what is in it. */
  manifest: Uint8Array;
}

/** Fails with `usage` or `server-settings` where the server cannot send an incremental backup. */
export function assertCanBeIncremental({ server, summarizesWal }: InstanceFacts, instance: string): void {
  if (server.major < 17) {
    const message = `instance ${instance} runs PostgreSQL ${server.version}; incremental base backups need 17 or newer`;
    throw new PgkitError("usage", message, { hint: "leave out --incremental" });
  }
  if (summarizesWal) return;
  throw new PgkitError(
    "server-settings",
    `summarize_wal of instance ${instance} is off, so it cannot send what changed`,
    {
      hint: "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf(); then take a full base backup first",
    },
  );
}

/**
 * The newest base backup of this server that every target holds with all that it builds on. Fails with `backup-missing`
 * when there is none, and with `identity-required` when it is encrypted and cannot be read here.
 */
export async function findParent(
  targets: readonly Target[],
  instance: string,
  { server }: InstanceFacts,
): Promise<Parent> {
  const alive = targets.filter(isAlive);
  const lists = await Promise.all(alive.map((target) => wholeBackups(target, instance, server.systemId)));
  const [first = [], ...others] = lists;
  const parent = first.findLast(({ id }) => others.every((list) => list.some((other) => other.id === id)));
  const [target] = alive;
  if (parent === undefined || target === undefined) {
    const where = alive.map(({ repository }) => repository.where).join(" and in ");
    const message = `there is no base backup of instance ${instance} to build on in ${where}`;
    throw new PgkitError("backup-missing", message, { hint: "take a full one first: pgkit backup base" });
  }
  return { id: parent.id, manifest: await readServerManifest(target, parent) };
}

/** In the order of their WAL, oldest first: two may have started in one second; those whose chain of parents is there to its full backup, none of them found damaged. */
async function wholeBackups({ repository, signal }: Target, instance: string, systemId: string): Promise<Manifest[]> {
  const { backups } = await listBackups(repository, { instance, signal });
  const bases = new Map(
    backups.filter((each) => each.kind === "base" && each.server.systemId === systemId).map((each) => [each.id, each]),
  );
  const damaged = await readDamage(repository, { signal });
  const isWhole = (each: Manifest): boolean => {
    const { parent } = each;
    if (damaged.has(nameOf(each))) return false;
    if (parent === undefined) return true;
    const found = bases.get(parent);
    return found !== undefined && isWhole(found);
  };
  const whole = [...bases.values()].filter(isWhole);
  return whole.toSorted((a, b) => Number(startOf(a) - startOf(b)));
}

function startOf({ base }: Manifest): bigint {
  return base === undefined ? 0n : parseLsn(base.startLsn);
}

async function readServerManifest({ repository, signal }: Target, parent: Manifest): Promise<Uint8Array> {
  const file = parent.files.find(({ role }) => role === "backup-manifest");
  if (file !== undefined) return readSmallFile(repository, file, { signal });
  throw new PgkitError("manifest-corrupt", `base backup ${parent.id} names no backup_manifest`, {
    hint: "take a full base backup",
  });
}
