import { isPgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Programs } from "../postgres/programs.ts";
import { withScratchServer } from "../postgres/scratch-server.ts";
import { checkStored, readFile } from "../repo/files.ts";
import type { Manifest, StoredFile } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { prepareRestore } from "../restore/logical.ts";
import { type BaseCheck, baseCheck } from "./verify-base.ts";

export interface Verification {
  repository: RepositoryReader;
  backup: Manifest;
  /** Restores into a scratch server on this machine and compares. */
  deep: boolean;
  programsFor: (major: number, options: { server: boolean }) => Promise<Programs>;
  jobs: number;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

/**
 * Reads back every stored byte of a backup and checks it against the manifest, decoded too where that can be done here.
 * Gives what is wrong, one sentence each; empty when the backup is whole. A store that does not answer, and an identity
 * that does not open what is whole, is an error of the run, not a problem of the backup.
 */
export async function verifyBackup(verification: Verification): Promise<string[]> {
  const { backup, deep, report, clock } = verification;
  const task = `verify ${backup.id}`;
  const startedMs = clock.monotonicMs();
  report({ type: "start", task, totalBytes: backup.storedBytes });
  let bytes = 0;
  const problems: string[] = [];
  const base = backup.base === undefined ? undefined : baseCheck(verification);
  let decoded = true;
  for (const file of backup.files) {
    const { problem, storedOnly } = await verifyFile(verification, file, base);
    // A damaged backup_manifest is met again by every archive that is compared with it.
    if (problem !== undefined && !problems.includes(problem)) problems.push(problem);
    if (storedOnly) decoded = false;
    bytes += file.volumes.reduce((sum, volume) => sum + volume.storedBytes, 0);
    report({ type: "progress", task, bytes, totalBytes: backup.storedBytes });
  }
  if (base !== undefined && decoded && problems.length === 0) problems.push(...(await base.problems()));
  if (deep && problems.length === 0) problems.push(...(await deepCheck(verification)));
  report({ type: "done", task, bytes, seconds: (clock.monotonicMs() - startedMs) / 1000 });
  return problems;
}

async function deepCheck(verification: Verification): Promise<string[]> {
  if (verification.backup.base === undefined) return restoreToScratch(verification);
  const { verifyBaseDeep } = await import("./verify-base-deep.ts");
  return verifyBaseDeep(verification);
}

/** `storedOnly`: without an identity the bytes could not be decoded, only compared with those written. */
async function verifyFile(
  verification: Verification,
  file: StoredFile,
  base: BaseCheck | undefined,
): Promise<{ problem: string | undefined; storedOnly: boolean }> {
  const { repository, backup, report, signal } = verification;
  try {
    if (base !== undefined && file.role !== "backup-manifest") await base.read(file);
    else for await (const _ of readFile(repository, file, { signal }));
    return { problem: undefined, storedOnly: false };
  } catch (error) {
    if (isPgkitError(error, "identity-required")) {
      report({
        type: "warning",
        message: `${backup.id}: ${file.name} is checked as it is stored only: ${error.message}`,
        hint: error.hint,
      });
      return { problem: await verifyStored(verification, file), storedOnly: true };
    }
    if (isPgkitError(error, "object-corrupt", "object-missing")) return { problem: error.message, storedOnly: false };
    throw error;
  }
}

async function verifyStored({ repository, signal }: Verification, file: StoredFile): Promise<string | undefined> {
  try {
    await checkStored(repository, file, { signal });
    return undefined;
  } catch (error) {
    if (isPgkitError(error, "object-corrupt", "object-missing")) return error.message;
    throw error;
  }
}

/** What a restore into an empty server of the same major says; comparing with the manifest is part of each restore. */
async function restoreToScratch(verification: Verification): Promise<string[]> {
  const { backup, programsFor, signal } = verification;
  const programs = await programsFor(Number.parseInt(backup.server.version, 10), { server: true });
  try {
    await withScratchServer(programs, { signal }, async (connection) => {
      const { run } = await prepareRestore({
        ...verification,
        request: {
          replace: false,
          tables: [],
          schemaOnly: false,
          jobs: verification.jobs,
          updateRoles: false,
          as: "verified",
        },
        instance: "scratch",
        connection,
        programsFor: () => Promise.resolve(programs),
      });
      await run();
    });
    return [];
  } catch (error) {
    if (
      isPgkitError(error, "verification-failed", "tool-failed", "object-corrupt", "object-missing", "identity-wrong")
    ) {
      return [error.message];
    }
    throw error;
  }
}
