import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { formatBytes, formatDuration } from "../../lib/parse.ts";
import { inZone } from "../../lib/parse-time.ts";
import type { Manifest } from "../../repo/manifest.ts";
import type { RestoreResult } from "../../restore/database.ts";
import type { RestorePlan } from "../../restore/plan.ts";
import { auditActor } from "../actor.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import { partlyDone } from "../failures.ts";
import { type FoundBackup, findInRepositories } from "../read-repositories.ts";
import { harmless } from "../text.ts";

export const restoreCommand: Command = {
  name: "restore",
  summary: "Restore a database into a live instance, or an instance as a whole into a data directory",
  arguments: [
    {
      name: "DB",
      doc: "the database, by the name it was backed up under, or with --in-kubernetes an instance; without it --data-dir is needed",
    },
  ],
  options: [
    ...(["backup", "as", "replace", "toInstance", "table", "schemaOnly", "updateRoles", "jobs"] as const),
    ...(["dataDir", "toTime", "toLsn", "toXid", "toName", "immediate", "latest", "exclusive", "timeline"] as const),
    ...(["action", "start", "delta", "tablespace", "withoutArchiving", "systemId", "dryRun", "yes"] as const),
    ...(["scratch", "whole", "withoutContentCheck", "setAside", "putBack", "dropAside"] as const),
    ...(["inKubernetes", "detach", "scratchSize"] as const),
    ...(["keepOld", "toNewPvc", "overrideGitops", "rollback", "finish", "status"] as const),
  ],
  examples: [
    { line: "pgkit restore litellm", does: "a database that is gone, from its newest backup" },
    { line: "pgkit restore litellm --as litellm_check", does: "beside the live one" },
    { line: "pgkit restore litellm --replace", does: "in the place of the live one, which is kept" },
    { line: "pgkit restore litellm --table public.users", does: "a table that was dropped, into the live database" },
    { line: "pgkit restore litellm --to-instance dedicated --dry-run", does: "shows what would be done elsewhere" },
    { line: "pgkit restore litellm --to-time 2026-11-21T12:00:00Z", does: "as it was at noon, beside the live one" },
    {
      line: "pgkit restore litellm --to-time -15m --table public.users",
      does: "a table as it was a quarter of an hour ago, beside the live one in the live database",
    },
    {
      line: "pgkit restore --data-dir /var/lib/postgresql/new --to-time 2026-11-21T02:00:00Z --start",
      does: "a whole instance as it was at that moment, recovered here",
    },
    {
      line: "pgkit restore litellm --to-time -15m --in-kubernetes",
      does: "by a Job in the cluster, followed from here",
    },
    {
      line: "pgkit restore --in-kubernetes shared --to-time -15m",
      does: "a whole instance in its cluster: its StatefulSet is stopped, restored on its volume, and started again",
    },
    { line: "pgkit restore --data-dir /srv/copy --dry-run", does: "shows what all that is stored would come to" },
  ],
  run: async (context, args) => {
    if (args.flags.inKubernetes) {
      const { restoreInKubernetes } = await import("./restore-in-kubernetes.ts");
      return restoreInKubernetes(context, args);
    }
    refuseVolumeFlags(args);
    const { putBack, dropAside } = args.flags;
    if (putBack !== undefined || dropAside !== undefined) {
      const { restoreAsideCommand } = await import("./restore-aside.ts");
      return restoreAsideCommand(context, args);
    }
    if (args.flags.dataDir !== undefined) {
      const { restoreInstanceCommand } = await import("./restore-instance.ts");
      return restoreInstanceCommand(context, args);
    }
    if (args.one("DB") === undefined) {
      throw new PgkitError("usage", "neither a database nor a directory to restore into is named", {
        hint: "pgkit restore DB restores a database into a live instance, pgkit restore --data-dir DIR a whole instance",
      });
    }
    refuseInstanceFlags(args);
    if (hasTarget(args)) {
      refuseTogether(args);
      const { restoreDatabaseAt } = await import("./restore-database-at.ts");
      return restoreDatabaseAt(context, args);
    }
    refuseRecoveryFlags(args);
    return restoreFromLogical(context, args);
  },
};

/** A database at a moment comes out of a base backup and WAL; without one, out of a logical backup. */
function hasTarget({ flags }: CommandArguments): boolean {
  const { toTime, toLsn, toXid, toName, immediate, latest } = flags;
  return [toTime, toLsn, toXid, toName].some((given) => given !== undefined) || immediate || latest;
}

/** What only the restore of an instance takes must not be passed over in silence. */
function refuseInstanceFlags({ flags }: CommandArguments): void {
  const { start, delta, withoutArchiving, setAside } = flags;
  const action = flags.action !== "promote";
  const tablespace = flags.tablespace.length > 0;
  refuseFirst({ action, start, delta, withoutArchiving, tablespace, setAside }, "--data-dir", {
    hint: "--data-dir DIR restores the instance as a whole",
  });
}

/** Nor what only the restore of an instance in the cluster takes. */
export function refuseVolumeFlags({ flags }: CommandArguments): void {
  const { toNewPvc, overrideGitops, rollback, finish, status } = flags;
  const keepOld = flags.keepOld !== "rename";
  refuseFirst({ keepOld, toNewPvc, overrideGitops, rollback, finish, status }, "--in-kubernetes INSTANCE", {
    hint: "pgkit restore --in-kubernetes INSTANCE restores an instance as a whole in the cluster",
  });
}

/** Nor what only a recovery takes. */
function refuseRecoveryFlags({ flags }: CommandArguments): void {
  const { exclusive, timeline, systemId, scratch, whole, withoutContentCheck } = flags;
  refuseFirst({ exclusive, timeline, systemId, scratch, whole, withoutContentCheck }, "--to-time", {
    hint: "--to-time, or another target, restores the database as it was there, out of a base backup and WAL",
  });
}

function refuseFirst(given: Record<string, unknown>, goesWith: string, { hint }: { hint: string }): void {
  const [first] = Object.entries(given).filter(([, value]) => value !== undefined && value !== false);
  if (first === undefined) return;
  const flag = first[0].replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new PgkitError("usage", `--${flag} goes with ${goesWith}`, { hint });
}

async function restoreFromLogical(context: CommandContext, args: CommandArguments): Promise<number> {
  refuseTogether(args);
  const found = await chooseBackup(context, args);
  const { prepareRestore } = await import("../../restore/logical.ts");
  const { programsFor } = await import("../../postgres/programs.ts");
  const { clock, report, signal, config } = context;
  const instance = context.instance(args.flags.toInstance ?? found.manifest.instance);
  const { plan, run } = await prepareRestore({
    repository: found.repository,
    backup: found.manifest,
    request: requestOf(args, instance.jobs),
    instance: instance.name,
    connection: await context.connection(instance),
    programsFor: (major) => programsFor(major, config.postgresBin),
    ...{ clock, report, signal },
  });
  if (args.flags.dryRun) {
    context.out.result({ json: { plan, dryRun: true }, text: () => planText(plan, config.timeZone) });
    return 0;
  }
  report({ type: "note", message: planText(plan, config.timeZone) });
  if (plan.keptAs !== undefined) await context.confirm(`ends all sessions of ${plan.to.database} and replaces it`);
  const startedMs = clock.monotonicMs();
  const result = await audited(context, found, plan, run);
  return conclude(context, found.manifest, plan, { ...result, seconds: (clock.monotonicMs() - startedMs) / 1000 });
}

function refuseTogether({ flags: { as, replace } }: CommandArguments): void {
  if (as === undefined || !replace) return;
  throw new PgkitError("usage", "--as and --replace cannot be used together", {
    hint: "--as restores beside the live database, --replace in its place",
  });
}

function requestOf({ flags }: CommandArguments, jobs: number) {
  const { as, replace, table, schemaOnly, updateRoles } = flags;
  return { as, replace, tables: table, schemaOnly, updateRoles, jobs: flags.jobs ?? jobs };
}

/** The backup named, or the newest of the database in the first repository that has one. */
async function chooseBackup(context: CommandContext, args: CommandArguments): Promise<FoundBackup> {
  const database = args.one("DB") ?? "";
  const id = args.flags.backup;
  if (id !== undefined) {
    const found = await findInRepositories(context, id);
    refuseOtherInstance(context, found.manifest);
    if (found.manifest.database === database) return found;
    const message = `backup ${id} is of database ${found.manifest.database ?? "none"}, not of ${database}`;
    throw new PgkitError("usage", message, { hint: "--as restores it under another name" });
  }
  const { newestBackup } = await import("../../restore/logical.ts");
  const instance = context.instance().name;
  let missing: unknown;
  for (const config of context.config.repositories) {
    try {
      const repository = await context.openRepository(config);
      const manifest = await newestBackup(repository, { instance, database, signal: context.signal });
      return { manifest, repository, config };
    } catch (error) {
      if (!isPgkitError(error, "backup-missing", "repository-missing")) throw error;
      missing ??= error;
    }
  }
  throw missing;
}

/** --instance says whose backups are meant; where they go is another question. */
function refuseOtherInstance({ instanceName }: CommandContext, { id, instance }: Manifest): void {
  if (instanceName === undefined || instanceName === instance) return;
  throw new PgkitError("usage", `backup ${id} is of instance ${instance}, not of ${instanceName}`, {
    hint: `leave --instance out, or restore it into ${instanceName} by --to-instance ${instanceName}`,
  });
}

async function audited(
  context: CommandContext,
  { repository, manifest }: FoundBackup,
  plan: RestorePlan,
  run: () => Promise<RestoreResult>,
): Promise<RestoreResult> {
  const { withAudit } = await import("../../repo/audit.ts");
  const config =
    context.config.repositories.find((each) => each.url === repository.where) ?? context.config.repositories[0];
  if (config === undefined) return run();
  const { clock, report, signal } = context;
  const details = { backup: manifest.id, to: plan.to, ...(plan.keptAs === undefined ? {} : { keptAs: plan.keptAs }) };
  const writable = { ...repository, store: await context.openStore(config) };
  const subject = `${manifest.instance}/${manifest.database}`;
  const work = { clock, report, signal, actor: auditActor(context), command: "restore", subject, details };
  // Who can only read the repository may restore all the same; the warning that nothing is recorded is enough.
  return withAudit(writable, { ...work, required: false }, run);
}

function conclude(
  { out }: CommandContext,
  backup: Manifest,
  plan: RestorePlan,
  result: RestoreResult & { seconds: number },
): number {
  const { database, keptAs, tables, rows, notRestored, seconds } = result;
  out.result({
    json: {
      backup: backup.id,
      target: plan.to.instance,
      reached: { time: backup.startedAt, lsn: backup.logical?.lsn },
      database: plan.from.database,
      as: database,
      ...(keptAs === undefined ? {} : { keptAs }),
      ...{ tables, rows, notRestored, seconds },
    },
    text: () => harmless(resultLines(backup, plan, result).join("\n")),
  });
  return notRestored.length === 0 ? 0 : partlyDone;
}

function resultLines(
  backup: Manifest,
  plan: RestorePlan,
  { database, keptAs, tables, rows, notRestored, seconds }: RestoreResult & { seconds: number },
): string[] {
  const compared = plan.data ? `${tables} tables and ${rows} rows are as the backup recorded them` : `${tables} tables`;
  return [
    `restored ${database} on instance ${plan.to.instance} as of ${backup.startedAt} in ${formatDuration(Math.round(seconds * 1000))}: ${compared}`,
    ...(keptAs === undefined
      ? []
      : [`the former ${database} is kept as ${keptAs}; when it is not needed: DROP DATABASE "${keptAs}"`]),
    ...notRestored.map((statement) => `NOT RESTORED, the live rows do not fit it: ${statement}`),
  ];
}

function planText(plan: RestorePlan, timeZone: string): string {
  const { from, to, copyInto, keptAs, rolesToCreate, rolesToUpdate, tables } = plan;
  const at = new Date(from.startedAt);
  const local = timeZone === "UTC" ? "" : ` (${inZone(at, timeZone)})`;
  const what =
    tables === "all" ? `database ${from.database}` : tables.map(({ schema, name }) => `${schema}.${name}`).join(", ");
  return harmless(
    [
      `restore ${what} of instance ${from.instance} as of ${from.startedAt}${local}, from ${plan.backup}`,
      `  fetch ${plan.files.length} files, ${formatBytes(plan.storedBytes)}`,
      `  roles to create: ${rolesToCreate.join(", ") || "none"}${rolesToUpdate.length === 0 ? "" : `; to update: ${rolesToUpdate.join(", ")}`}`,
      `  load into a new database ${plan.loading} of instance ${to.instance}${plan.data ? "" : ", without rows"}, and compare it with the manifest`,
      copyInto !== undefined
        ? `  copy the tables into ${copyInto} in one transaction, and drop ${plan.loading}`
        : keptAs === undefined
          ? `  rename it to ${to.database}`
          : `  end the sessions of ${to.database}, rename that to ${keptAs} and the new one to ${to.database} in one transaction`,
    ].join("\n"),
  );
}
