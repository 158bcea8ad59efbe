import type { PgkitError } from "../lib/errors.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import type { CommandContext } from "./command.ts";
import type { RepositoryConfig } from "./config.ts";

export interface FoundBackup {
  manifest: Manifest;
  repository: RepositoryReader;
  config: RepositoryConfig;
}

export interface Findings {
  /** Oldest first. */
  backups: FoundBackup[];
  unreadable: { instance: string; id: string; error: PgkitError; repository: string }[];
}

/** Every backup of every repository, or of one instance. Fails when one of them cannot be read: half a list lies. */
export async function readRepositories(context: CommandContext, instance?: string): Promise<Findings> {
  const { listBackups } = await import("../repo/backups.ts");
  const { signal } = context;
  const findings: Findings = { backups: [], unreadable: [] };
  for (const config of context.config.repositories) {
    const repository = await context.openRepository(config);
    const list = await listBackups(repository, { instance, signal });
    findings.backups.push(...list.backups.map((manifest) => ({ manifest, repository, config })));
    findings.unreadable.push(...list.unreadable.map((each) => ({ ...each, repository: repository.where })));
  }
  return findings;
}

/** The backup of that id, from the first repository that has it. Fails with `backup-missing`. */
export async function findInRepositories(context: CommandContext, id: string): Promise<FoundBackup> {
  const { findBackup } = await import("../repo/backups.ts");
  const { isPgkitError } = await import("../lib/errors.ts");
  const { signal } = context;
  let missing: unknown;
  for (const config of context.config.repositories) {
    try {
      const repository = await context.openRepository(config);
      return { manifest: await findBackup(repository, id, { signal }), repository, config };
    } catch (error) {
      if (!isPgkitError(error, "backup-missing", "repository-missing")) throw error;
      missing ??= error;
    }
  }
  throw missing;
}

/**
 * The copies of the backup of that id, one from each repository that has it, and the errors of those where its manifest
 * cannot be read. Fails with `backup-missing` when none has it.
 */
export async function findEveryCopy(
  context: CommandContext,
  id: string,
): Promise<{ found: FoundBackup[]; unreadable: { error: PgkitError; repository: string }[] }> {
  const { findBackup } = await import("../repo/backups.ts");
  const { isPgkitError } = await import("../lib/errors.ts");
  const { signal } = context;
  const copies: Awaited<ReturnType<typeof findEveryCopy>> = { found: [], unreadable: [] };
  let missing: unknown;
  for (const config of context.config.repositories) {
    try {
      const repository = await context.openRepository(config);
      copies.found.push({ manifest: await findBackup(repository, id, { signal }), repository, config });
    } catch (error) {
      if (isPgkitError(error, "manifest-corrupt")) copies.unreadable.push({ error, repository: config.url });
      else if (isPgkitError(error, "backup-missing", "repository-missing")) missing ??= error;
      else throw error;
    }
  }
  if (copies.found.length + copies.unreadable.length === 0) throw missing;
  return copies;
}
