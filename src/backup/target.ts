import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Bytes } from "../lib/streams.ts";
import { type FileProof, type NewFile, writeFile } from "../repo/files.ts";
import type { StoredFile } from "../repo/manifest.ts";
import type { Repository } from "../repo/repository.ts";

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
