import type { BaseBackupRequest } from "../backup/base.ts";
import type { BackupOutcome } from "../backup/logical.ts";
import { type Connection, parseConnection } from "../postgres/connection.ts";
import { leaseOptions } from "./actor.ts";
import type { CommandContext } from "./command.ts";
import type { InstanceConfig } from "./config.ts";
import { openWhereItWas, ownMemory } from "./known-place.ts";
import type { CommandFlags } from "./options/command.ts";
import { withoutPassword } from "./postgres-url.ts";

/** Flags of `pgkit backup base`; what is left out comes from the instance's configuration. */
export type BaseBackupFlags = Partial<
  Pick<
    CommandFlags,
    "incremental" | "withWal" | "engine" | "standby" | "label" | "checkpoint" | "maxRate" | "walTimeout"
  >
>;

/** How long the WAL may come no further until the backup fails. */
const walTimeoutMs = 60_000;

/** Takes one base backup of the instance into every repository. Fails when it got into none. */
export async function takeBaseBackup(
  context: CommandContext,
  instance: InstanceConfig,
  flags: BaseBackupFlags,
): Promise<BackupOutcome> {
  const { backupBase } = await import("../backup/base.ts");
  const { withDestinations } = await import("../backup/destinations.ts");
  const { programsFor } = await import("../postgres/programs.ts");
  const { config, signal, clock, report } = context;
  const request = await requestOf(context, instance, flags);
  const openers = config.repositories.map((repository) => ({
    where: repository.url,
    open: () => openWhereItWas(context, repository, ownMemory(context.env)),
  }));
  const lease = { ...leaseOptions(context, "backup base"), withoutConditions: "proceed" as const };
  return withDestinations(openers, instance.name, lease, async (destinations, failures) => {
    const [first] = failures;
    if (destinations.length === 0 && first !== undefined) throw first.error;
    const made = await backupBase(request, destinations, {
      programsFor: (major) => programsFor(major, config.postgresBin),
      pgkitVersion: context.version,
      ...{ clock, report, signal },
    });
    return { made: made.made, failures: [...failures, ...made.failures] };
  });
}

async function requestOf(
  context: CommandContext,
  instance: InstanceConfig,
  flags: BaseBackupFlags,
): Promise<BaseBackupRequest> {
  const { base } = instance;
  const connection = await context.connection(instance);
  const standby = flags.standby ?? base.standby;
  return {
    ...{ instance: instance.name, connection },
    // What --standby may hold as a password is not taken: it would have been seen in the list of processes.
    standby: standby === undefined ? undefined : standbyOf(standby, connection),
    engine: flags.engine ?? base.engine,
    label: flags.label,
    ...{ incremental: flags.incremental ?? false, withWal: flags.withWal ?? false },
    walTimeoutMs: flags.walTimeout ?? walTimeoutMs,
    checkpoint: flags.checkpoint ?? base.checkpoint,
    maxRate: flags.maxRate ?? base.maxRate,
    ...{ level: base.level, workers: base.workers },
  };
}

/** Its password is the instance's, and changes with it. */
function standbyOf(url: string, { password, renewPassword }: Connection): Connection {
  return { ...parseConnection(withoutPassword(url).url, password), renewPassword };
}
