import * as v from "valibot";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { SignalOption } from "../store/store.ts";
import { archivingKey } from "./layout.ts";
import { type Repository, type RepositoryReader, readObject } from "./repository.ts";

const SettingRecord = v.object({
  /** What pgkit wrote to postgresql.auto.conf. */
  value: v.string(),
  /** What stood there before; absent where nothing did. */
  previous: v.optional(v.string()),
});

const ArchivingRecord = v.object({
  format: v.literal(1),
  method: v.picklist(["archive", "stream"]),
  enabledAt: v.pipe(v.string(), v.isoTimestamp()),
  settings: v.record(v.string(), SettingRecord),
  /** Slots that pgkit made. */
  slots: v.array(v.string()),
});

/** What `pitr enable` changed on a server. It is written before the first change, so it may name some that never came. */
export type ArchivingRecord = v.InferOutput<typeof ArchivingRecord>;

/** The record of the server with this system id, `undefined` where the store said that there is none. */
export async function readArchivingRecord(
  { store, where }: RepositoryReader,
  lineage: { instance: string; systemId: string },
  options: SignalOption = {},
): Promise<ArchivingRecord | undefined> {
  const key = archivingKey(lineage);
  const text = await readObject(store, key, options).catch((error: unknown) => {
    if (isPgkitError(error, "object-missing")) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), ArchivingRecord), text);
  if (parsed.success) return parsed.output;
  throw new PgkitError("manifest-corrupt", `${key} in ${where} cannot be read: ${parsed.issues[0].message}`, {
    hint: "it says what pgkit pitr enable changed on the server: remove it, and undo by ALTER SYSTEM what is to be undone",
  });
}

export async function writeArchivingRecord(
  { store }: Repository,
  lineage: { instance: string; systemId: string },
  record: ArchivingRecord,
  options: SignalOption = {},
): Promise<void> {
  const bytes = Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`);
  await store.put(archivingKey(lineage), bytes, options);
}

/** One that is not there is not an error. */
export async function removeArchivingRecord(
  { store }: Repository,
  lineage: { instance: string; systemId: string },
  options: SignalOption = {},
): Promise<void> {
  await store.delete([archivingKey(lineage)], options);
}
