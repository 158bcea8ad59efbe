import pLimit from "p-limit";
import * as v from "valibot";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import type { SignalOption } from "../store/store.ts";
import { findBackup } from "./backups.ts";
import { keepIdentity, keepKey, keepPrefix, manifestKey } from "./layout.ts";
import type { Manifest } from "./manifest.ts";
import { type Repository, type RepositoryReader, readObject } from "./repository.ts";

const Time = v.pipe(v.string(), v.isoTimestamp());
const Note = { by: v.string(), at: Time, reason: v.optional(v.string()) };
const KeepRecord = v.variant("forever", [
  v.object({ forever: v.literal(true), ...Note }),
  v.object({ forever: v.optional(v.undefined_()), until: Time, ...Note }),
]);

/** A pin as stored. Times are RFC 3339 in UTC. */
export type KeepRecord = v.InferOutput<typeof KeepRecord>;

/** A pin, of a backup that may be gone. One that cannot be read has a `problem`, and pins for ever. */
export type Keep = { instance: string; id: string } & ({ record: KeepRecord } | { problem: PgkitError });

const parallelReads = 16;

/** Every pin of the repository, ended ones too, in order of their keys. */
export async function readKeeps(repository: RepositoryReader, options: SignalOption = {}): Promise<Keep[]> {
  const limit = pLimit(parallelReads);
  const reads: Promise<Keep | undefined>[] = [];
  for await (const { key } of repository.store.list(keepPrefix, options)) {
    const found = keepIdentity(key);
    if (found === undefined) continue;
    const read = limit(() => readKeep(repository, found, options));
    // Awaited below; one that fails while the list goes on, or after that has failed, must not count as unobserved.
    read.catch(() => undefined);
    reads.push(read);
  }
  return (await Promise.all(reads)).filter((keep) => keep !== undefined);
}

/** The pin of one backup, `undefined` where there is none. */
export async function readKeep(
  repository: RepositoryReader,
  { instance, id }: { instance: string; id: string },
  options: SignalOption = {},
): Promise<Keep | undefined> {
  const key = keepKey(instance, id);
  try {
    const record = parseKeep(await readObject(repository.store, key, options), `${key} in ${repository.where}`);
    return { instance, id, record };
  } catch (error) {
    if (isPgkitError(error, "object-missing")) return undefined;
    if (!isPgkitError(error, "manifest-corrupt")) throw error;
    return { instance, id, problem: error };
  }
}

/** True when the pin keeps its backup at `now`. */
export function isPinned(keep: Keep, now: Date): boolean {
  return "problem" in keep || keep.record.forever === true || new Date(keep.record.until) > now;
}

/** `pinned until 2026-12-31T00:00:00Z by alice (audit)`. */
export function describeKeep(keep: Keep): string {
  if ("problem" in keep) return "pinned, by a pin that cannot be read";
  const { record } = keep;
  const reason = record.reason === undefined ? "" : ` (${record.reason})`;
  return `pinned ${record.forever === true ? "for ever" : `until ${record.until}`} by ${record.by}${reason}`;
}

/** Until when the backup is kept, for JSON: RFC 3339 or `forever`; `undefined` when the pin has ended. */
export function keptUntil(keep: Keep, now: Date): string | undefined {
  if (!isPinned(keep, now)) return undefined;
  return "problem" in keep || keep.record.forever === true ? "forever" : keep.record.until;
}

export interface PinOptions extends SignalOption {
  clock: Clock;
  until: Date | "forever";
  by: string;
  reason?: string | undefined;
}

/** Keeps a backup from being pruned, in place of the pin it may have. Fails with `backup-missing`, or `usage` for a time that is past. */
export async function pin(
  repository: Repository,
  backupId: string,
  { clock, until, by, reason, signal }: PinOptions,
): Promise<{ backup: Manifest; keep: Keep }> {
  const now = clock.now();
  if (until !== "forever" && until <= now) {
    throw new PgkitError("usage", `${rfc3339(until)} is past, so it would keep nothing`, {
      hint: "give a time to come, such as +30d, or --forever",
    });
  }
  const backup = await findBackup(repository, backupId, { signal });
  const note = { by, at: rfc3339(now), ...(reason === undefined ? {} : { reason }) };
  const record: KeepRecord = until === "forever" ? { forever: true, ...note } : { until: rfc3339(until), ...note };
  const key = keepKey(backup.instance, backup.id);
  await repository.store.put(key, Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`), { signal });
  // Prune looks for the pin after it removed a manifest, and we for the manifest after the pin: one of both sees the other.
  if ((await repository.store.head(manifestKey(backup.instance, backup.id), { signal })) === undefined) {
    await repository.store.delete([key], { signal });
    throw new PgkitError("backup-missing", `backup ${backup.id} was removed from ${repository.where} just now`, {
      hint: "pgkit list shows the backups that are left",
    });
  }
  return { backup, keep: { instance: backup.instance, id: backup.id, record } };
}

/** Takes the pin off; gives the pin that was there, if any. Fails with `backup-missing`. */
export async function release(
  repository: Repository,
  backupId: string,
  { signal }: SignalOption = {},
): Promise<{ backup: Manifest; released: Keep | undefined }> {
  const backup = await findBackup(repository, backupId, { signal });
  const released = await readKeep(repository, backup, { signal });
  await repository.store.delete([keepKey(backup.instance, backup.id)], { signal });
  return { backup, released };
}

function parseKeep(text: string, where: string): KeepRecord {
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), KeepRecord), text);
  if (result.success) return result.output;
  throw new PgkitError("manifest-corrupt", `${where} is not a pin`, {
    hint: "write it anew with pgkit keep, or remove it with pgkit keep --release",
  });
}
