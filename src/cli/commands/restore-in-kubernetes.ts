import { PgkitError } from "../../lib/errors.ts";
import type { ScheduledKind } from "../../manifests/request.ts";
import type { CommandArguments, CommandContext } from "../command.ts";
import { runInKubernetes } from "../in-kubernetes.ts";
import { argsForJob } from "../in-kubernetes-args.ts";
import { refuseVolumeFlags } from "./restore.ts";

/** `pgkit restore NAME --in-kubernetes`: an instance of the configuration as a whole, or a database by a Job. */
export async function restoreInKubernetes(context: CommandContext, args: CommandArguments): Promise<number> {
  const name = args.one("DB");
  if (name !== undefined && context.instanceName === undefined && context.config.instances.has(name)) {
    const { restoreVolumeCommand } = await import("./restore-volume.ts");
    return await restoreVolumeCommand(context, args, name);
  }
  refuseVolumeFlags(args);
  if (args.flags.dataDir !== undefined) {
    throw new PgkitError(
      "usage",
      "--data-dir is a directory of this machine, and --in-kubernetes works in the cluster",
      {
        hint: "name a database, and leave --data-dir out",
      },
    );
  }
  if (name === undefined) {
    throw new PgkitError("usage", "no database and no instance is named", {
      hint: "pgkit restore DB --in-kubernetes, or pgkit restore --in-kubernetes INSTANCE --to-time T",
    });
  }
  return await restoreDatabaseInKubernetes(context, args, name);
}

/** Asked here, as nobody can be asked there. */
async function restoreDatabaseInKubernetes(
  context: CommandContext,
  args: CommandArguments,
  database: string,
): Promise<number> {
  const { flags } = args;
  const { config } = context;
  const target = context.instance(flags.toInstance);
  const instead = new Map<string, readonly string[]>();
  // What "a quarter of an hour ago" means is decided now, and not when a Pod has begun.
  if (flags.toTime !== undefined) instead.set("--to-time", [`--to-time=${context.time(flags.toTime).exact}`]);
  if (flags.replace && !flags.dryRun) {
    const what = `${flags.as ?? database} of instance ${target.name}`;
    await context.confirm(`ends all sessions of ${what} and replaces it, by a Job in ${(await context.kube()).where}`);
    instead.set("--yes", ["--yes"]);
  }
  const { restore, deadlineMs } = config.inCluster;
  return await runInKubernetes(context, {
    like: likeFor(context),
    title: "restore",
    instance: target,
    args: argsForJob(context, {
      instance: flags.toInstance === undefined ? target.name : context.instanceName,
      detach: flags.detach,
      instead,
    }),
    detach: flags.detach,
    room: { ...restore, deadlineMs, scratchBytes: flags.scratchSize ?? restore.scratchBytes },
  });
}

/** A check has the server's password and the age identity; a backup has no identity. */
function likeFor({ config }: CommandContext): readonly [ScheduledKind, ...ScheduledKind[]] {
  const isEncrypted = config.repositories.some(({ encryption }) => encryption.identityFile !== undefined);
  return isEncrypted ? ["check"] : ["check", "logical", "base"];
}
