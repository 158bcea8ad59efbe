import { isPgkitError, type PgkitError } from "../lib/errors.ts";
import { type ArchivingExpectation, archivingFindings, type HealthFinding, type HealthInput } from "../wal/health.ts";
import type { StoredWal } from "../wal/stored-wal.ts";
import { archiveCommandOf } from "./archiving.ts";
import type { CommandContext } from "./command.ts";
import type { InstanceConfig } from "./config.ts";
import { streamFolderOf } from "./stream-folder.ts";

export interface ArchivingStatus extends HealthInput {
  findings: HealthFinding[];
}

export function expectationOf(context: CommandContext, instance: InstanceConfig): ArchivingExpectation {
  const { archive, name, objectives, schedule } = instance;
  const { method, slot, flushEveryMs, warnBytes, alertBytes, warnAfterMs, alertAfterMs } = archive;
  return {
    ...{ instance: name, method, slot, flushEveryMs, warnBytes, alertBytes, warnAfterMs, alertAfterMs },
    archiveCommand: archiveCommandOf(context, instance),
    rpoMs: objectives.rpoMs,
    intended: schedule.base !== undefined,
  };
}

/** Asks server, repositories and the streamer's folder; what does not answer is an alert, and does not hide the rest. */
export async function archivingStatus(context: CommandContext, instance: InstanceConfig): Promise<ArchivingStatus> {
  const { readStreamStatus } = await import("../wal/stream-status.ts");
  const silent: HealthFinding[] = [];
  const tell = (name: string, where: string) => (error: PgkitError) => {
    const { message, hint, code } = error;
    silent.push({ name, level: "alert", message: `${where}: ${message}`, ...(hint && { remedy: hint }), code });
  };
  const server = await orTold(serverOf(context, instance), tell("server", `instance ${instance.name}`));
  const stored: StoredWal[] = [];
  for (const repository of context.config.repositories) {
    const found = await orTold(storedIn(context, repository, instance), tell("repository", repository.url));
    if (found !== undefined) stored.push(found);
  }
  const streamer = await readStreamStatus(streamFolderOf(instance, context.env));
  const input = { expected: expectationOf(context, instance), server, stored, streamer, now: context.clock.now() };
  return { ...input, findings: [...silent, ...archivingFindings(input)] };
}

async function serverOf(context: CommandContext, instance: InstanceConfig) {
  const { withSession } = await import("../postgres/session.ts");
  const { archivingServer } = await import("../wal/status.ts");
  const options = { applicationName: "pgkit pitr status", signal: context.signal };
  return await withSession(await context.connection(instance), options, archivingServer);
}

async function storedIn(
  context: CommandContext,
  repository: CommandContext["config"]["repositories"][number],
  { name }: InstanceConfig,
): Promise<StoredWal> {
  const { readStoredWal } = await import("../wal/stored-wal.ts");
  const { signal } = context;
  try {
    return await readStoredWal(await context.openRepository(repository), name, { signal });
  } catch (error) {
    // One that is not made yet has nothing stored.
    if (isPgkitError(error, "repository-missing")) return { repository: repository.url, lineages: [] };
    throw error;
  }
}

async function orTold<T>(work: Promise<T>, tell: (error: PgkitError) => void): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (!isPgkitError(error) || isPgkitError(error, "bug", "cancelled", "usage")) throw error;
    tell(error);
    return undefined;
  }
}
