import { tmpdir } from "node:os";
import { resolve } from "node:path";
import { PgkitError } from "../../lib/errors.ts";
import type { RepositoryReader } from "../../repo/repository.ts";
import type { DatabaseAtResult } from "../../restore/database-at.ts";
import type { DatabaseAtPlan } from "../../restore/database-at-plan.ts";
import { auditActor } from "../actor.ts";
import type { CommandArguments, CommandContext } from "../command.ts";
import type { RepositoryConfig } from "../config.ts";
import { planJson, planText, resultJson, resultText } from "../database-at-text.ts";
import { partlyDone } from "../failures.ts";
import { planIn } from "./restore-instance.ts";

/** `pgkit restore DB --to-time T`: one database, or single tables of it, out of a base backup and WAL. */
export async function restoreDatabaseAt(context: CommandContext, args: CommandArguments): Promise<number> {
  const { recoveryRequest } = await import("../../restore/recovery-request.ts");
  const { prepareDatabaseAt } = await import("../../restore/database-at.ts");
  const { programsFor } = await import("../../postgres/programs.ts");
  const { clock, report, signal, config, version } = context;
  const { flags } = args;
  if (flags.schemaOnly) throw noSchemaOnly();
  const from = context.instance();
  const toTime = flags.toTime === undefined ? undefined : context.time(flags.toTime);
  const wishes = { ...flags, action: "promote" as const, toTime, timeZone: config.timeZone };
  const to = context.instance(flags.toInstance ?? from.name);
  const connection = await context.connection(to);
  const { plan: recovery, repository, config: place } = await planIn(context, from.name, recoveryRequest(wishes));
  const { plan, run } = await prepareDatabaseAt({
    ...{ repository, recovery, request: requestOf(args, to.jobs), instance: to.name, connection },
    programsFor: (major, options) => programsFor(major, config.postgresBin, options),
    scratch: resolve(flags.scratch ?? tmpdir()),
    ...{ pgkitVersion: version, clock, report, signal },
  });
  const { timeZone } = config;
  if (flags.dryRun) {
    context.out.result({ json: { plan: planJson(plan), dryRun: true }, text: () => planText(plan, timeZone) });
    return 0;
  }
  report({ type: "note", message: planText(plan, timeZone) });
  if (plan.keptAs !== undefined) await context.confirm(`ends all sessions of ${plan.to.database} and replaces it`);
  const startedMs = clock.monotonicMs();
  const done = await audited(context, { repository, place, plan }, run);
  const result = { ...done, seconds: (clock.monotonicMs() - startedMs) / 1000 };
  context.out.result({ json: resultJson(plan, result), text: () => resultText(plan, result) });
  return result.notRestored.length === 0 ? 0 : partlyDone;
}

function noSchemaOnly(): PgkitError {
  return new PgkitError("usage", "--schema-only goes with a logical backup, not with a moment", {
    hint: "restore the database beside the live one, and dump its schema by pg_dump --schema-only",
  });
}

function requestOf(args: CommandArguments, jobs: number) {
  const { as, replace, table: tables, whole, withoutContentCheck, updateRoles, jobs: wanted } = args.flags;
  const contentCheck = !withoutContentCheck;
  return {
    database: args.one("DB") ?? "",
    as,
    replace,
    tables,
    whole,
    contentCheck,
    updateRoles,
    jobs: wanted ?? jobs,
  };
}

async function audited(
  context: CommandContext,
  { repository, place, plan }: { repository: RepositoryReader; place: RepositoryConfig; plan: DatabaseAtPlan },
  run: () => Promise<DatabaseAtResult>,
): Promise<DatabaseAtResult> {
  const { withAudit } = await import("../../repo/audit.ts");
  const { targetJson } = await import("../../restore/recovery-target.ts");
  const { clock, report, signal } = context;
  const { recovery, database, to, keptAs } = plan;
  const where = { backup: recovery.backup.id, target: targetJson(recovery.target), to };
  const details = { ...where, ...(keptAs === undefined ? {} : { keptAs }) };
  const writable = { ...repository, store: await context.openStore(place) };
  const subject = `${recovery.instance}/${database}`;
  const work = { clock, report, signal, actor: auditActor(context), command: "restore", subject, details };
  // Who can only read the repository may restore all the same.
  return withAudit(writable, { ...work, required: false }, run);
}
