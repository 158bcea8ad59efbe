import * as v from "valibot";
import { isPgkitError } from "../lib/errors.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import type { SignalOption } from "../store/store.ts";
import { damageIdentity, damageKey, damagePrefix } from "./layout.ts";
import type { Manifest } from "./manifest.ts";
import { type Repository, type RepositoryReader, readObject } from "./repository.ts";
import { type BackupName, nameOf } from "./retention.ts";

const DamageRecord = v.object({
  format: v.literal(1),
  at: v.string(),
  /** Found by a restore; reading the bytes back does not refute it. */
  deep: v.boolean(),
  problems: v.array(v.string()),
});

/** What the last verification found of a backup: it stays until one that looks as closely finds it whole. */
export type DamageRecord = v.InferOutput<typeof DamageRecord>;

/**
 * The backups that a verification found damaged, with what it found, by `nameOf`. One whose record cannot be read counts as
 * damaged: that removes nothing, it only pushes no other out.
 */
export async function readDamage(
  repository: RepositoryReader,
  options: SignalOption = {},
): Promise<Map<string, DamageRecord>> {
  const damage = new Map<string, DamageRecord>();
  for await (const { key } of repository.store.list(damagePrefix, options)) {
    const backup = damageIdentity(key);
    const record = backup && (await readRecord(repository, backup, options));
    if (backup !== undefined && record !== undefined) damage.set(nameOf(backup), record);
  }
  return damage;
}

/** Keeps what a verification found, for `prune` and `list`. */
export async function noteVerified(
  repository: Repository,
  backup: BackupName,
  { problems, deep, clock, signal }: SignalOption & { problems: readonly string[]; deep: boolean; clock: Clock },
): Promise<void> {
  const key = damageKey(backup.instance, backup.id);
  const before = await readRecord(repository, backup, { signal });
  if (problems.length === 0) {
    if (before !== undefined && (deep || !before.deep)) await repository.store.delete([key], { signal });
    return;
  }
  // A closer look found more than this one can refute.
  const record: DamageRecord = {
    format: 1,
    at: rfc3339(clock.now()),
    deep: before?.deep ?? deep,
    problems: [...problems],
  };
  await repository.store.put(key, Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`), { signal });
}

/** Those of `damaged` and all that build on one of them: none of these can be restored. */
export function withChildren(
  backups: readonly Pick<Manifest, "instance" | "id" | "parent">[],
  damaged: ReadonlySet<string>,
): Set<string> {
  const all = new Set(damaged);
  for (let before = -1; before !== all.size; ) {
    before = all.size;
    for (const { instance, id, parent } of backups) {
      if (parent !== undefined && all.has(nameOf({ instance, id: parent }))) all.add(nameOf({ instance, id }));
    }
  }
  return all;
}

async function readRecord(
  { store }: RepositoryReader,
  { instance, id }: BackupName,
  options: SignalOption,
): Promise<DamageRecord | undefined> {
  try {
    const text = await readObject(store, damageKey(instance, id), options);
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), DamageRecord), text);
    if (parsed.success) return parsed.output;
    return { format: 1, at: "an unknown time", deep: false, problems: ["the record of its damage cannot be read"] };
  } catch (error) {
    if (isPgkitError(error, "object-missing")) return undefined;
    throw error;
  }
}
