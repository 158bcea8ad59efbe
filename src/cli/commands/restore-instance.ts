import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import type { RunningServer } from "../../postgres/server.ts";
import type { RepositoryReader } from "../../repo/repository.ts";
import type { InstanceRestore, RestoredInstance } from "../../restore/instance.ts";
import type { Reached } from "../../restore/recover.ts";
import type { RecoveryPlan, RecoveryRequest } from "../../restore/recovery-plan.ts";
import { auditActor } from "../actor.ts";
import type { CommandArguments, CommandContext } from "../command.ts";
import type { InstanceConfig, RepositoryConfig } from "../config.ts";
import { planJson, planText, resultJson, resultText } from "../recovery-text.ts";
import { asideOf, withAside } from "./restore-aside.ts";

/** `pgkit restore --data-dir DIR`: a whole instance. */
export async function restoreInstanceCommand(context: CommandContext, args: CommandArguments): Promise<number> {
  const { recoveryRequest } = await import("../../restore/recovery-request.ts");
  const { flags } = args;
  const dataDir = flags.dataDir ?? "";
  if (args.one("DB") !== undefined) {
    throw new PgkitError("usage", "--data-dir restores an instance as a whole, and a database is named", {
      hint: "leave the database out, or leave --data-dir out to restore it into a live instance",
    });
  }
  const toTime = flags.toTime === undefined ? undefined : context.time(flags.toTime);
  const request = recoveryRequest({ ...flags, toTime, timeZone: context.config.timeZone });
  const instance = instanceOf(context);
  const { plan, repository, config } = await planIn(context, instance.name, request);
  const options = { ...flags, dataDir, timeZone: context.config.timeZone };
  const tablespaces = tablespacesOf(flags.tablespace, plan);
  const programs = await neededPrograms(context, plan, flags.start);
  if (flags.dryRun) {
    context.out.result({ json: { plan: planJson(plan, options), dryRun: true }, text: () => planText(plan, options) });
    return 0;
  }
  context.report({ type: "note", message: planText(plan, options) });
  if (flags.delta) await context.confirm(`overwrites what differs in ${dataDir}`);
  const startedMs = context.clock.monotonicMs();
  const job = { repository, plan, dataDir, tablespaces, programs, instance };
  const restored = await audited(context, { repository, config, plan, dataDir }, () =>
    withAside(args, job, (delta) => restore(context, args, { ...job, delta })),
  );
  const result = { ...restored, seconds: (context.clock.monotonicMs() - startedMs) / 1000 };
  const kept = asideOf(args, dataDir);
  context.out.result({
    json: { ...resultJson(plan, options, result), ...(kept === undefined ? {} : { keptAt: kept.path }) },
    text: () => [resultText(plan, options, result), ...(kept === undefined ? [] : [kept.text])].join("\n"),
  });
  return 0;
}

type Job = Pick<InstanceRestore, "repository" | "plan" | "dataDir" | "tablespaces" | "programs" | "delta"> & {
  instance: InstanceConfig;
};

async function restore(
  context: CommandContext,
  { flags }: CommandArguments,
  { instance, ...job }: Job,
): Promise<RestoredInstance> {
  const { restoreInstance } = await import("../../restore/instance.ts");
  const { restoreCommand } = await import("../../wal/archive-command.ts");
  const { serverCommandsOf } = await import("../archiving.ts");
  const { clock, report, signal } = context;
  return restoreInstance({
    ...job,
    ...{ start: flags.start, noArchive: flags.withoutArchiving },
    restoreCommand: restoreCommand(serverCommandsOf(context, instance)),
    jobs: flags.jobs ?? instance.archive.parallel,
    whilePaused: (server, reached) => whilePaused(context, { server, reached, dataDir: job.dataDir }),
    ...{ clock, report, signal },
  });
}

/** That of the configuration; on a machine without one, any that the repository knows, with the defaults. */
function instanceOf(context: CommandContext): InstanceConfig {
  const { config, instanceName } = context;
  const [first] = config.instances.values();
  if (config.file !== undefined || instanceName === undefined || first === undefined) return context.instance();
  return config.instances.get(instanceName) ?? { ...first, name: instanceName };
}

/** The plan in the first repository from which the target can be reached; else the first one's refusal. */
export async function planIn(
  context: CommandContext,
  instance: string,
  request: RecoveryRequest,
): Promise<{ plan: RecoveryPlan; repository: RepositoryReader; config: RepositoryConfig }> {
  const { readRecoveryInventory } = await import("../../restore/recovery-inventory.ts");
  const { planRecovery } = await import("../../restore/recovery-plan.ts");
  let refusal: unknown;
  for (const config of context.config.repositories) {
    try {
      const repository = await context.openRepository(config);
      const inventory = await readRecoveryInventory(repository, instance, context);
      return { plan: planRecovery(inventory, request), repository, config };
    } catch (error) {
      if (!isPgkitError(error, ...elsewhere)) throw error;
      refusal ??= error;
    }
  }
  throw refusal;
}

/** What another repository may have. */
const elsewhere = [
  ...(["repository-missing", "backup-missing", "no-backup-for-target"] as const),
  ...(["wal-gap", "timeline-unreachable", "target-not-archived"] as const),
];

function tablespacesOf(texts: readonly string[], { backup }: RecoveryPlan): ReadonlyMap<number, string> {
  const known = backup.base.tablespaces;
  return new Map(
    texts.map((text) => {
      const [, which = "", dir = ""] = /^([^=]+)=(\/.*)$/.exec(text) ?? [];
      const found = known.find(({ oid, name }) => String(oid) === which || name === which);
      if (found !== undefined) return [found.oid, dir] as const;
      const wrong = which === "" ? "is not NAME=/DIRECTORY" : `names none of the tablespaces of ${backup.id}`;
      throw new PgkitError("usage", `--tablespace ${text} ${wrong}`, {
        hint: `there are: ${known.map(({ oid, name }) => `${name} (${oid})`).join(", ") || "none"}`,
      });
    }),
  );
}

async function neededPrograms({ config }: CommandContext, { backup, chain }: RecoveryPlan, start: boolean) {
  if (!start && chain.length === 1) return undefined;
  const { programsFor } = await import("../../postgres/programs.ts");
  return programsFor(Number.parseInt(backup.server.version, 10), config.postgresBin, { server: true });
}

/** Until Ctrl-C, or until the server is stopped from elsewhere. */
async function whilePaused({ report, signal }: CommandContext, { server, reached, dataDir }: Paused): Promise<void> {
  const where = `psql -h ${server.socketDir} -p ${server.port}`;
  const message = `recovery is paused at ${reached.lsn} in ${dataDir}; look at it by: ${where}; Ctrl-C stops the server there`;
  report({ type: "note", message });
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
  await Promise.race([stopped, server.ended]);
}

interface Paused {
  server: RunningServer;
  reached: Reached;
  dataDir: string;
}

interface Audited {
  repository: RepositoryReader;
  config: RepositoryConfig;
  plan: RecoveryPlan;
  dataDir: string;
}

async function audited(
  context: CommandContext,
  { repository, config, plan, dataDir }: Audited,
  run: () => Promise<RestoredInstance>,
): Promise<RestoredInstance> {
  const { withAudit } = await import("../../repo/audit.ts");
  const { targetJson } = await import("../../restore/recovery-target.ts");
  const { clock, report, signal } = context;
  const details = { backup: plan.backup.id, target: targetJson(plan.target), dataDir };
  const writable = { ...repository, store: await context.openStore(config) };
  const work = {
    clock,
    report,
    signal,
    actor: auditActor(context),
    command: "restore",
    subject: plan.instance,
    details,
  };
  // Who can only read the repository may restore all the same.
  return withAudit(writable, { ...work, required: false }, run);
}
