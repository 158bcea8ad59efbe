import { compactTime } from "../lib/time.ts";

/**
 * Every key of a repository is spelled here and nowhere else. What each holds and which promises hold between them is
 * written in `docs/repository-format.md`.
 */
export const identityKey = "pgkit.json";
export const guideKey = "RESTORE.md";
export const manifestPrefix = "backups/";
export const filesPrefix = "files/";
export const keepPrefix = "keeps/";
export const auditPrefix = "audit/";

/** A backup exists when, and only when, this object does. */
export function manifestKey(instance: string, id: string): string {
  return `${manifestPrefix}${instance}/${id}.json`;
}

/** The id in a manifest's key, `undefined` for a key that is no manifest's. */
export function manifestIdentity(key: string): { instance: string; id: string } | undefined {
  const match = /^backups\/([^/]+)\/([^/]+)\.json$/.exec(key);
  const [, instance, id] = match ?? [];
  return instance === undefined || id === undefined ? undefined : { instance, id };
}

/** The folder of a backup's files; all in it is garbage until the manifest exists. */
export function backupFolder(instance: string, id: string): string {
  return `${filesPrefix}${instance}/${id}/`;
}

/** The backup that a file belongs to, `undefined` for a key that is no backup's file. */
export function fileOwner(key: string): { instance: string; id: string } | undefined {
  const [, instance, id] = /^files\/([^/]+)\/([^/]+)\/./.exec(key) ?? [];
  return instance === undefined || id === undefined ? undefined : { instance, id };
}

/** The nth volume (from 1) of a file; the volumes of one file sort in order, so that `cat` puts them together. */
export function volumeKey(folder: string, name: string, volume: number): string {
  return volume === 1 ? `${folder}${name}` : `${folder}${name}.volume${String(volume).padStart(4, "0")}`;
}

export const walPrefix = "wal/";

/**
 * The WAL of one server by its system identifier: a lineage. A server that was made anew, or upgraded, has another one,
 * so that its segments, whose names begin again, never meet those of the old one.
 */
export function walFolder({ instance, systemId }: { instance: string; systemId: string }): string {
  return `${walPrefix}${instance}/${systemId}/`;
}

/** What is known of a lineage as a whole: written once, before its first file. */
export function lineageKey(lineage: { instance: string; systemId: string }): string {
  return `${walFolder(lineage)}lineage.json`;
}

/** What `pitr enable` changed on the server of a lineage, so that `pitr disable` undoes that and nothing else. */
export function archivingKey(lineage: { instance: string; systemId: string }): string {
  return `${walFolder(lineage)}enabled.json`;
}

/** A WAL file by PostgreSQL's own name for it, in the folder of its timeline; `suffix` tells how it is encoded. */
export function walKey(lineage: { instance: string; systemId: string }, name: string, suffix: string): string {
  return `${walFolder(lineage)}${name.slice(0, 8)}/${name}${suffix}`;
}

/** The WAL file in a key of `walKey`, `undefined` for any other key; `suffix` is `.zst` or `.zst.age`. */
export function walFileOf(
  key: string,
): { instance: string; systemId: string; name: string; suffix: string } | undefined {
  const [, instance, systemId, timeline, name, suffix] =
    /^wal\/([^/]+)\/(\d+)\/([0-9A-F]{8})\/([0-9A-Fa-z.]+?)(\.zst(?:\.age)?)$/.exec(key) ?? [];
  if (instance === undefined || systemId === undefined || timeline === undefined) return undefined;
  if (name === undefined || suffix === undefined || !name.startsWith(timeline)) return undefined;
  return { instance, systemId, name, suffix };
}

/** The instance and system identifier that a key under `walPrefix` belongs to, `undefined` for a key that is foreign. */
export function lineageOf(key: string): { instance: string; systemId: string } | undefined {
  const [, instance, systemId] = /^wal\/([^/]+)\/(\d+)\/./.exec(key) ?? [];
  return instance === undefined || systemId === undefined ? undefined : { instance, systemId };
}

/** Where the records of WAL that was given up are. */
export function gapPrefix(lineage: { instance: string; systemId: string }): string {
  return `${walFolder(lineage)}gaps/`;
}

/** WAL that was given up on purpose, so that no restore believes it is there. */
export function gapKey(lineage: { instance: string; systemId: string }, time: Date, unique: string): string {
  return `${gapPrefix(lineage)}${compactTime(time)}-${unique}.json`;
}

/** A pin: the backup is not pruned while this object says so. */
export function keepKey(instance: string, id: string): string {
  return `${keepPrefix}${instance}/${id}.json`;
}

/** The pin in a key of `keepKey`, `undefined` for any other key. */
export function keepIdentity(key: string): { instance: string; id: string } | undefined {
  const [, instance, id] = /^keeps\/([^/]+)\/([^/]+)\.json$/.exec(key) ?? [];
  return instance === undefined || id === undefined ? undefined : { instance, id };
}

export const damagePrefix = "damaged/";

/** That a verification found the backup damaged. */
export function damageKey(instance: string, id: string): string {
  return `${damagePrefix}${instance}/${id}.json`;
}

/** The backup of a key of `damageKey`, `undefined` for any other key. */
export function damageIdentity(key: string): { instance: string; id: string } | undefined {
  const [, instance, id] = /^damaged\/([^/]+)\/([^/]+)\.json$/.exec(key) ?? [];
  return instance === undefined || id === undefined ? undefined : { instance, id };
}

export const movePrefix = "moves/";

/** The moves of databases that such a slug stands for; their records hold the exact name. */
export function movesOf(instance: string, database: string): string {
  return `${movePrefix}${instance}/${slugOf(database)}/`;
}

/** The journal and the proof of one move, below the instance that it began on. */
export function moveFolder(instance: string, database: string, id: string): string {
  return `${movesOf(instance, database)}${id}/`;
}

/** The nth object (from 1) of the journal in a folder: a record, or several that were written together. */
export function journalRecordKey(folder: string, number: number): string {
  return `${folder}${String(number).padStart(6, "0")}.json`;
}

/** The folder of the move and the number of the record in a key of its journal, `undefined` for any other key. */
export function moveRecordOf(key: string): { folder: string; id: string; number: number } | undefined {
  const [, folder, id, digits] = /^(moves\/[^/]+\/[^/]+\/([^/]+)\/)(\d{6})\.json$/.exec(key) ?? [];
  if (folder === undefined || id === undefined || digits === undefined) return undefined;
  return { folder, id, number: Number(digits) };
}

/** What was compared of source and target, as JSON and as text, beside the journal in the folder of `moveFolder`. */
export function moveProofKeys(folder: string): { json: string; text: string } {
  return { json: `${folder}proof.json`, text: `${folder}proof.txt` };
}

/** The restores of an instance's volume in a cluster. */
export function volumeRestoresOf(instance: string): string {
  return `restores/${instance}/`;
}

/** The journal of one of them. */
export function volumeRestoreFolder(instance: string, id: string): string {
  return `${volumeRestoresOf(instance)}${id}/`;
}

/** The restore that a key of its journal belongs to, `undefined` for any other key. */
export function volumeRestoreOf(key: string): { instance: string; id: string } | undefined {
  const [, instance, id] = /^restores\/([^/]+)\/([^/]+)\/\d{6}\.json$/.exec(key) ?? [];
  return instance === undefined || id === undefined ? undefined : { instance, id };
}

export const leasePrefix = "leases/";

/** The terms of a lease, one object each; the highest counts. */
export function leaseFolder(name: string): string {
  return `${leasePrefix}${name}/`;
}

/** The lease that a key belongs to, `undefined` for a key that is no lease's. */
export function leaseNameOf(key: string): string | undefined {
  return /^leases\/([^/]+)\/./.exec(key)?.[1];
}

export function leaseTermKey(name: string, term: number): string {
  return `${leaseFolder(name)}${String(term).padStart(12, "0")}.json`;
}

/** The number of a lease's term, `undefined` for a key that is no term. */
export function leaseTermOf(key: string): number | undefined {
  const [, digits] = /^leases\/[^/]+\/(\d{12})\.json$/.exec(key) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

/** An object that is only stored to see which time the store gives it. */
export function leaseMarkKey(name: string, unique: string): string {
  return `${leaseFolder(name)}mark-${unique}`;
}

export function auditKey(time: Date, unique: string): string {
  return `${auditPrefix}${time.toISOString().slice(0, 7).replace("-", "/")}/${compactTime(time)}-${unique}.json`;
}

/**
 * `litellm-20261121T020000Z-3f9a`: readable, sorted by time within a database, unique by its last part. A database may
 * have any name, so what a key may not hold becomes `_`; the manifest holds the exact name.
 */
export function backupId(subject: string, time: Date, unique: string): string {
  return `${slugOf(subject)}-${compactTime(time)}-${unique}`;
}

/** True when a backup of `subject` that started after `time`, or at any time, could have this id. */
export function mayBeLater(id: string, subject: string, time: Date | undefined): boolean {
  const start = `${slugOf(subject)}-`;
  const [, stamp] = /^(\d{8}T\d{6}Z)-[^-]*$/.exec(id.slice(start.length)) ?? [];
  if (!id.startsWith(start) || stamp === undefined) return false;
  return time === undefined || stamp > compactTime(time);
}

function slugOf(subject: string): string {
  const slug = subject.replaceAll(/[^A-Za-z0-9_.-]/g, "_").slice(0, 40);
  return slug.replace(/^[.-]+/, "_") || "_";
}
