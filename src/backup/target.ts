import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Bytes } from "../lib/streams.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import { commitBackup } from "../repo/backups.ts";
import { type FileProof, type NewFile, storedBytesOf, writeFile } from "../repo/files.ts";
import { backupFolder, backupId } from "../repo/layout.ts";
import { type Manifest, manifestFormat, type StoredFile } from "../repo/manifest.ts";
import type { Repository } from "../repo/repository.ts";
import type { BackupDestination } from "./logical.ts";

/** One repository that a backup goes to. The first failure ends its part in this backup, and no other's. */
export interface Target {
  readonly repository: Repository;
  /** Aborted with the run, and when the lease on this repository is lost. */
  readonly signal: AbortSignal;
  readonly folder: string;
  readonly retainUntil: Date | undefined;
  files: StoredFile[];
  proof: FileProof;
  failure: unknown;
  /** The manifest was sent: even if that failed it may be there, so the files must stay. */
  commitTried: boolean;
}

/** Who makes a backup of what. */
interface NewBackup {
  instance: string;
  clock: Clock;
}

/** A new backup's id, and a target for each destination whose part of the run has not ended. */
export function newTargets(
  { instance, clock }: NewBackup,
  subject: string,
  destinations: readonly BackupDestination[],
  startedAt: Date,
): { id: string; targets: Target[] } {
  const unique = Math.floor(clock.random() * 0x1_0000)
    .toString(16)
    .padStart(4, "0");
  const id = backupId(subject, startedAt, unique);
  const alive = destinations.filter(({ signal }) => !signal.aborted);
  return { id, targets: alive.map((each) => newTarget(each, backupFolder(instance, id), startedAt)) };
}

function newTarget({ repository, signal }: BackupDestination, folder: string, startedAt: Date): Target {
  const { retainMs } = repository;
  return {
    ...{ repository, signal, folder },
    retainUntil: retainMs === undefined ? undefined : new Date(startedAt.getTime() + retainMs),
    files: [],
    proof: "store-checksum",
    failure: undefined,
    commitTried: false,
  };
}

export function isAlive(target: Target): boolean {
  return target.failure === undefined;
}

/** Stores one file of the backup; a failure is kept in the target, which then takes no more. */
export async function storeFile(
  target: Target,
  file: NewFile & Pick<StoredFile, "copy">,
  source: Bytes,
  onBytes?: (bytes: number) => void,
): Promise<void> {
  const { repository, folder, retainUntil, signal } = target;
  try {
    const written = await writeFile(repository, folder, { ...file, retainUntil }, source, {
      signal,
      ...(onBytes === undefined ? {} : { onBytes }),
    });
    target.files.push(written.file);
    if (written.proof === "read-back") target.proof = "read-back";
  } catch (error) {
    target.failure ??= error ?? new PgkitError("bug", "a write failed without an error");
  }
}

/** How long the one small write may take that makes a backup exist. */
const commitMs = 60_000;

/** What a manifest says that is not of one repository. */
export type ManifestFacts = Pick<Manifest, "id" | "kind" | "instance" | "startedAt" | "server" | "tools"> &
  Partial<Pick<Manifest, "database" | "parent" | "logical" | "base">>;

/** Makes the backup exist in one repository; gives its manifest, or `undefined` with the failure kept in the target. */
export async function commitTarget(target: Target, facts: ManifestFacts, clock: Clock): Promise<Manifest | undefined> {
  const { repository, files, proof, signal, retainUntil } = target;
  const manifest: Manifest = {
    format: manifestFormat,
    ...facts,
    repository: repository.id,
    finishedAt: rfc3339(clock.now()),
    ...(repository.recipients.length === 0 ? {} : { recipients: [...repository.recipients] }),
    plainBytes: files.reduce((sum, file) => sum + file.plainBytes, 0),
    storedBytes: storedBytesOf(files),
    proof,
    files: files.toSorted((a, b) => a.name.localeCompare(b.name)),
  };
  try {
    signal.throwIfAborted();
    target.commitTried = true;
    // Cut half-way nobody could tell whether it took place, and the files would have to stay: it runs to its end.
    await commitBackup(repository, manifest, { signal: AbortSignal.timeout(commitMs), retainUntil });
    return manifest;
  } catch (error) {
    target.failure = error;
    return undefined;
  }
}

/** How long removing what a failed backup has left may take; prune collects what is left then. */
const cleanUpMs = 20_000;

/** Removes what a failed backup has stored. Nothing lists it, so a failure here only leaves garbage. */
export async function discard({ repository, folder, commitTried }: Target, report: Report): Promise<void> {
  if (commitTried) return;
  const signal = AbortSignal.timeout(cleanUpMs);
  try {
    const keys: string[] = [];
    for await (const { key } of repository.store.list(folder, { signal })) keys.push(key);
    if (keys.length > 0) await repository.store.delete(keys, { signal });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report({
      type: "warning",
      message: `files of a failed backup stay under ${folder} in ${repository.where}: ${why}`,
      hint: "they count for nothing; pgkit prune collects them after a day",
    });
  }
}
