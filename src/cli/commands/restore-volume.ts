import type { VolumeRestoreFacts } from "../../incluster/facts.ts";
import type { FoundRestore, RestoreJournal, RestoreView } from "../../incluster/journal.ts";
import type { RestoreWorld } from "../../incluster/restore.ts";
import { PgkitError } from "../../lib/errors.ts";
import { auditActor } from "../actor.ts";
import type { CommandArguments, CommandContext } from "../command.ts";
import type { RepositoryConfig } from "../config.ts";
import { askedText, type PreparedRestore, prepareVolumeRestore } from "../restore-volume-plan.ts";
import { besideText, preparedJson, preparedText, restoreJson, restoreText } from "../restore-volume-text.ts";
import { volumeWorld } from "../restore-volume-world.ts";

/** `pgkit restore --in-kubernetes INSTANCE`: an instance as a whole, on the volume of its StatefulSet. */
export async function restoreVolumeCommand(
  context: CommandContext,
  args: CommandArguments,
  instance: string,
): Promise<number> {
  const { flags } = args;
  refuseOthers(args);
  if (flags.status) return showStatus(context, instance);
  if (flags.rollback || flags.finish) return goBackOrFinish(context, args, instance);
  if (flags.toNewPvc !== undefined) return restoreToNewClaim(context, args, instance, flags.toNewPvc);
  const found = await findIn(context, instance);
  if (found === undefined || isDone(found)) return begin(context, args, instance);
  const { facts, state } = found.journal;
  // What is restored already is not what was asked for now: a week may lie between.
  if (state === "restored" || facts.asked !== askedText(flags)) {
    throw new PgkitError("restore-refused", `a restore of ${instance} to ${facts.target} is ${state} already`, {
      hint:
        state === "restored"
          ? "--finish removes the old data of that, --rollback undoes it; then restore again"
          : `with ${facts.asked} it goes on; --rollback undoes it`,
    });
  }
  if (flags.dryRun) return conclude(context, found.journal);
  return goOn(context, "resume", found);
}

function isDone({ journal: { state } }: FoundRestore): boolean {
  return state === "rolled-back" || state === "finished";
}

async function begin(context: CommandContext, args: CommandArguments, instance: string): Promise<number> {
  const { clock } = context;
  const unique = Math.floor(clock.random() * 65_536)
    .toString(16)
    .padStart(4, "0");
  const { compactTime } = await import("../../lib/time.ts");
  const prepared = await prepareVolumeRestore(context, args, { instance, id: `${compactTime(clock.now())}-${unique}` });
  const { facts } = prepared;
  if (args.flags.dryRun) return showPlan(context, prepared);
  context.report({ type: "note", message: preparedText(prepared, context.config.timeZone) });
  refuseRisks(prepared);
  await context.confirm(
    `stops StatefulSet ${facts.namespace}/${facts.statefulSet}, puts ${facts.instance} back to ${facts.target}, and starts it again`,
  );
  const { startRestore } = await import("../../incluster/restore.ts");
  return audited(context, facts, "restore", (world) => startRestore(facts, world));
}

function showPlan(context: CommandContext, prepared: PreparedRestore): number {
  context.out.result({
    json: preparedJson(prepared),
    text: () => preparedText(prepared, context.config.timeZone),
  });
  const refusal = prepared.risks.find(({ level }) => level === "refusal");
  return refusal === undefined ? 0 : new PgkitError("restore-refused", refusal.message).exitStatus;
}

function refuseRisks({ risks }: PreparedRestore): void {
  const refusals = risks.filter(({ level }) => level === "refusal");
  if (refusals.length === 0) return;
  const message = refusals.map((risk) => risk.message).join("; ");
  throw new PgkitError("restore-refused", message, { hint: refusals.map(({ hint }) => hint).join("; ") });
}

async function goOn(context: CommandContext, does: "resume" | "rollback" | "finish", found: FoundRestore) {
  const { resumeRestore, rollBackRestore, finishRestore } = await import("../../incluster/restore.ts");
  const go = { resume: resumeRestore, rollback: rollBackRestore, finish: finishRestore }[does];
  return audited(context, found.journal.facts, does, (world) => go(found, world));
}

async function goBackOrFinish(context: CommandContext, { flags }: CommandArguments, instance: string) {
  const found = await findOne(context, instance);
  const { facts } = found.journal;
  const does = flags.rollback ? "rollback" : "finish";
  const what = flags.rollback
    ? `stops ${instance}, puts its old data back, and starts it again: what was written since is kept aside`
    : `removes the old data of ${instance}: nothing leads back to before its restore to ${facts.target}`;
  if (flags.dryRun) return conclude(context, found.journal);
  await context.confirm(what);
  return goOn(context, does, found);
}

async function showStatus(context: CommandContext, instance: string): Promise<number> {
  return conclude(context, (await findOne(context, instance)).journal);
}

async function restoreToNewClaim(context: CommandContext, args: CommandArguments, instance: string, claim: string) {
  const { restoreBeside } = await import("../../incluster/beside.ts");
  const { contextOf } = await import("../../incluster/restore.ts");
  const prepared = await prepareVolumeRestore(context, args, { instance, id: claim, newClaim: claim });
  if (args.flags.dryRun) return showPlan(context, prepared);
  context.report({ type: "note", message: preparedText(prepared, context.config.timeZone) });
  refuseRisks(prepared);
  const { facts, restoredBytes } = prepared;
  const world = await volumeWorld(
    context,
    facts.instance,
    await context.openOrCreateRepository(firstRepository(context)),
  );
  const result = await restoreBeside(contextOf(world, { facts, steps: new Map() }, context.signal), restoredBytes);
  context.out.result({
    json: { instance, target: facts.target, claim, namespace: facts.namespace, ...result },
    text: () => besideText(facts, result),
  });
  return 0;
}

async function audited(
  context: CommandContext,
  facts: VolumeRestoreFacts,
  action: string,
  run: (world: RestoreWorld) => Promise<RestoreJournal>,
): Promise<number> {
  const { withAudit } = await import("../../repo/audit.ts");
  const { clock, report, signal } = context;
  const repository = await context.openOrCreateRepository(firstRepository(context));
  const world = await volumeWorld(context, facts.instance, repository);
  const details = { action, target: facts.target, statefulSet: `${facts.namespace}/${facts.statefulSet}` };
  const work = {
    clock,
    report,
    signal,
    actor: auditActor(context),
    command: "restore",
    subject: facts.instance,
    details,
  };
  return conclude(context, await withAudit(repository, work, () => run(world)));
}

function conclude({ out }: CommandContext, journal: RestoreView): number {
  out.result({ json: restoreJson(journal), text: () => restoreText(journal) });
  return 0;
}

async function findIn(context: CommandContext, instance: string): Promise<FoundRestore | undefined> {
  const { findRestore } = await import("../../incluster/journal.ts");
  const repository = await context.openRepository(firstRepository(context));
  return findRestore(repository, instance, { signal: context.signal });
}

async function findOne(context: CommandContext, instance: string): Promise<FoundRestore> {
  const found = await findIn(context, instance);
  if (found !== undefined) return found;
  throw new PgkitError("restore-missing", `no restore of ${instance} in Kubernetes is recorded`, {
    hint: `pgkit restore --in-kubernetes ${instance} --to-time T begins one`,
  });
}

function firstRepository({ config }: CommandContext): RepositoryConfig {
  const [first] = config.repositories;
  if (first === undefined) throw new PgkitError("config", "no repository is configured");
  return first;
}

/** What is of a database, or of a directory here, must not be passed over in silence. */
function refuseOthers({ flags }: CommandArguments): void {
  const given = {
    ...{ "--data-dir": flags.dataDir, "--as": flags.as, "--replace": flags.replace, "--table": flags.table.length > 0 },
    ...{ "--schema-only": flags.schemaOnly, "--delta": flags.delta, "--to-instance": flags.toInstance },
    ...{ "--set-aside": flags.setAside, "--tablespace": flags.tablespace.length > 0, "--scratch": flags.scratch },
    ...{ "--detach": flags.detach, "--scratch-size": flags.scratchSize, "--without-archiving": flags.withoutArchiving },
    ...{ "--action": flags.action !== "promote", "--whole": flags.whole },
  };
  const wrong = Object.entries(given).find(([, value]) => value !== undefined && value !== false)?.[0];
  if (wrong !== undefined) {
    throw new PgkitError("usage", `${wrong} does not go with the restore of an instance in Kubernetes`, {
      hint: "an instance is named: pgkit restore --in-kubernetes INSTANCE --to-time T; for a database name that, and --instance",
    });
  }
  const verbs = [flags.rollback, flags.finish, flags.status, flags.toNewPvc !== undefined].filter(Boolean);
  if (verbs.length > 1)
    throw new PgkitError("usage", "--rollback, --finish, --status and --to-new-pvc exclude each other");
}
