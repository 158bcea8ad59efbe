import { PgkitError } from "../../lib/errors.ts";
import type { StreamOutcome } from "../../wal/stream.ts";
import type { StreamRequest } from "../../wal/stream-context.ts";
import { leaseOptions } from "../actor.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import type { InstanceConfig } from "../config.ts";
import { openWhereItWas } from "../known-place.ts";
import type { Output } from "../render.ts";
import { streamFolderOf } from "../stream-folder.ts";

/** Stopped on request, but the repository did not take the rest. */
const stoppedEarly = 130;
/** After a kill the next run has to wait this long at most, where it is not on the same machine. */
const longestLeaseMs = 30_000;

export const walStreamCommand: Command = {
  name: "wal stream",
  summary: "Follow the server by pg_receivewal and a replication slot, and store its WAL as it comes, until stopped",
  arguments: [],
  options: ["flushEvery"],
  examples: [
    { line: "pgkit wal stream --instance shared", does: "until SIGTERM or Ctrl-C, which store the rest first" },
    { line: "pgkit wal stream --flush-every 1s", does: "at most about a second is lost with the server" },
  ],
  run: async (context, args) => {
    const { streamWal } = await import("../../wal/stream.ts");
    const instance = context.instance();
    const outcome = await streamWal(await requestOf(context, args, instance), context.signal);
    return conclude(context, instance, outcome);
  },
};

async function requestOf(
  context: CommandContext,
  args: CommandArguments,
  instance: InstanceConfig,
): Promise<StreamRequest> {
  const { programsFor } = await import("../../postgres/programs.ts");
  const { config, clock, report, env } = context;
  const { archive, name } = instance;
  const { slot, onFull, warnBytes, alertBytes, warnAfterMs, alertAfterMs } = archive;
  const lease = leaseOptions(context, "wal stream");
  const streamFolder = streamFolderOf(instance, env);
  return {
    ...{ instance: name, streamFolder, connection: await context.connection(instance) },
    repositories: config.repositories.map((repository) => ({
      where: repository.url,
      open: () => openWhereItWas(context, repository, streamFolder),
    })),
    ...{ slot, onFull, warnBytes, alertBytes, warnAfterMs, alertAfterMs },
    flushEveryMs: args.flags.flushEvery ?? archive.flushEveryMs,
    lease: {
      holder: lease.holder,
      ttlMs: Math.min(lease.ttlMs, longestLeaseMs),
      withoutConditions: "proceed",
    },
    programsFor: (major) => programsFor(major, config.postgresBin),
    takeBaseBackup: (signal) => takeBaseBackup({ ...context, signal }, args),
    ...{ clock, report },
  };
}

/** What `pgkit backup base` of the configuration does; gives the id. */
async function takeBaseBackup(context: CommandContext, args: CommandArguments): Promise<string> {
  const { backupBaseCommand } = await import("./backup-base.ts");
  const made: { backups: { id: string }[] } = { backups: [] };
  const out: Output = {
    json: true,
    result: ({ json }) => void Object.assign(made, json),
    raw: () => undefined,
  };
  await backupBaseCommand.run({ ...context, out }, args);
  const [first] = made.backups;
  if (first !== undefined) return first.id;
  throw new PgkitError("partly-done", "the base backup made nothing", { hint: "run pgkit backup base by hand" });
}

function conclude({ out, report }: CommandContext, { name }: InstanceConfig, outcome: StreamOutcome): number {
  const { systemId, storedLsn, allStored } = outcome;
  if (!allStored) {
    report({
      type: "warning",
      message: `stopped before all that was received of ${name} was stored`,
      hint: "it is kept by the slot on the server and in archive.streamFolder; the next pgkit wal stream stores it",
    });
  }
  out.result({
    json: { instance: name, systemId, storedLsn, allStored },
    text: storedLsn === undefined ? `nothing of ${name} was stored` : `WAL of ${name} is stored up to ${storedLsn}`,
  });
  return allStored ? 0 : stoppedEarly;
}
