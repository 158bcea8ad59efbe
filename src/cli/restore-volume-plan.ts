import { assess, type Risk } from "../incluster/assess.ts";
import type { VolumeRestoreFacts } from "../incluster/facts.ts";
import type { Sync } from "../incluster/gitops.ts";
import type { Workload } from "../kube/workloads.ts";
import { formatLsn } from "../lib/lsn.ts";
import { parseConnection } from "../postgres/connection.ts";
import type { RecoveryPlan } from "../restore/recovery-plan.ts";
import { describeTarget, type RecoveryTarget } from "../restore/recovery-target.ts";
import type { CommandArguments, CommandContext } from "./command.ts";
import { planIn } from "./commands/restore-instance.ts";
import type { CommandFlags } from "./options/command.ts";

/** A restore of an instance in the cluster before anything is changed: what would be done, and what speaks against it. */
export interface PreparedRestore {
  readonly facts: VolumeRestoreFacts;
  readonly plan: RecoveryPlan;
  readonly sync: Sync;
  readonly risks: readonly Risk[];
  readonly restoredBytes: number;
  readonly newClaim: string | undefined;
}

interface Wanted {
  readonly instance: string;
  readonly id: string;
  /** To a new volume claim of this name rather than in place. */
  readonly newClaim?: string;
}

/** Reads, and changes nothing. Fails with `kube-denied` naming all that is not allowed, and as the plan of a recovery does. */
export async function prepareVolumeRestore(
  context: CommandContext,
  { flags }: CommandArguments,
  { instance: name, id, newClaim }: Wanted,
): Promise<PreparedRestore> {
  const { assertRights } = await import("../incluster/rights.ts");
  const { findServer } = await import("../incluster/find-server.ts");
  const { serverVolumeOf } = await import("../incluster/server-volume.ts");
  const { signal, config } = context;
  const instance = context.instance(name);
  const plan = await recoveryPlan(context, flags, name);
  const kube = await context.kube();
  const { namespace } = config.inCluster;
  const inPlace = newClaim === undefined;
  await assertRights(kube, { namespace, keepOld: flags.keepOld, scales: inPlace }, signal);
  const host = parseConnection(instance.url, undefined).hosts[0]?.host ?? "";
  const { statefulSet, ...overrides } = instance.kubernetes;
  const server = await findServer(kube, { instance: name, namespace, statefulSet, host }, signal);
  const volume = serverVolumeOf(server, Number.parseInt(plan.backup.server.version, 10), overrides);
  const facts: VolumeRestoreFacts = {
    ...{ id, instance: name, namespace, statefulSet: server.metadata.name },
    ...{ asked: askedText(flags), target: describeTarget(plan.target), words: wordsOf(flags, plan) },
    ...{ backup: plan.backup.id, systemId: plan.systemId },
    databases: plan.backup.base.databases.map((each) => each.name).filter((each) => !each.startsWith("template")),
    ...{ keepOld: flags.keepOld, overrideGitops: flags.overrideGitops },
    ...(newClaim === undefined ? { volume } : { volume: { ...volume, claim: newClaim }, oldClaim: volume.claim }),
  };
  return {
    facts,
    plan,
    newClaim,
    restoredBytes: plan.restoredBytes,
    ...(await findings(context, facts, plan, server)),
  };
}

async function findings(
  context: CommandContext,
  restore: VolumeRestoreFacts,
  { backup, restoredBytes }: RecoveryPlan,
  server: Workload,
): Promise<Pick<PreparedRestore, "sync" | "risks">> {
  const { readClaim } = await import("../incluster/claim.ts");
  const { findSync } = await import("../incluster/gitops.ts");
  const { scheduled } = await import("../incluster/run-volume-job.ts");
  const { signal } = context;
  const kube = await context.kube();
  const { oldClaim, namespace, volume } = restore;
  const inPlace = oldClaim === undefined;
  const sync: Sync = inPlace ? await findSync(kube, server, signal) : { type: "none" };
  const risks = assess({
    ...{ restore, server, sync, restoredBytes, oldBytes: restoredBytes, inPlace },
    claim: await readClaim(kube, namespace, oldClaim ?? volume.claim, signal),
    hasBaseJob: (await scheduled({ kube, signal, restore }, "base")) !== undefined,
    tablespaces: backup.base.tablespaces.map(({ location }) => location).filter((place) => place.startsWith("/")),
  });
  return { sync, risks };
}

async function recoveryPlan(context: CommandContext, flags: CommandFlags, instance: string): Promise<RecoveryPlan> {
  const { recoveryRequest } = await import("../restore/recovery-request.ts");
  const { timeZone } = context.config;
  const toTime = flags.toTime === undefined ? undefined : context.time(flags.toTime);
  return (await planIn(context, instance, recoveryRequest({ ...flags, toTime, timeZone }))).plan;
}

/** What was typed of the target, to know the same command again: `-15m` is another moment each time. */
export function askedText(flags: CommandFlags): string {
  const { toTime, toLsn, toXid, toName, immediate, exclusive, timeline, backup, systemId, keepOld } = flags;
  const texts = { "to-time": toTime, "to-lsn": toLsn, "to-xid": toXid, "to-name": toName, timeline, backup };
  const given = Object.entries({ ...texts, "system-id": systemId }).flatMap(([flag, text]) =>
    text === undefined ? [] : [`--${flag} ${text}`],
  );
  const target = given.length === 0 && !immediate ? ["--latest"] : given;
  return [
    ...target,
    ...(immediate ? ["--immediate"] : []),
    ...(exclusive ? ["--exclusive"] : []),
    ...(keepOld === "rename" ? [] : [`--keep-old ${keepOld}`]),
  ].join(" ");
}

/** For the Job, which plans anew: with every choice as it was made here. */
function wordsOf({ exclusive }: CommandFlags, { target, backup, systemId, targetTimeline }: RecoveryPlan): string[] {
  return [
    ...targetWords(target),
    ...(exclusive ? ["--exclusive"] : []),
    ...[`--backup=${backup.id}`, `--system-id=${systemId}`, `--timeline=${targetTimeline}`],
  ];
}

function targetWords(target: RecoveryTarget): string[] {
  switch (target.type) {
    case "latest":
    case "immediate":
      return [`--${target.type}`];
    case "name":
      return [`--to-name=${target.name}`];
    case "time":
      return [`--to-time=${target.text}`];
    case "lsn":
      return [`--to-lsn=${formatLsn(target.lsn)}`];
    case "xid":
      return [`--to-xid=${target.xid}`];
  }
}
