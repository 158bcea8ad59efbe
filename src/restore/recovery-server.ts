import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Lsn } from "../lib/lsn.ts";
import type { WalInventory } from "../repo/wal-inventory.ts";
import type { Leg } from "./recovery-path.ts";
import type { BaseManifest, RecoveryInventory, RecoveryPlan, RecoveryRequest, StoredEnd } from "./recovery-plan.ts";

/** What is stored of one server that the instance has been: after pg_upgrade, or made anew, it is another one. */
export interface ServerHistory {
  instance: string;
  systemId: string;
  /** Oldest first. */
  backups: readonly BaseManifest[];
  wal: WalInventory | undefined;
  ends: readonly StoredEnd[];
}

/**
 * Runs `plan` for the server that is asked for: by its id, by a backup, else the one of which the target can be reached.
 * Fails with `usage` when several can, and with what `plan` says of the newest when none can. The newest serves where the
 * target is the latest, or the end of a backup.
 */
export function ofOneServer(
  inventory: RecoveryInventory,
  request: RecoveryRequest,
  plan: (server: ServerHistory) => RecoveryPlan,
): RecoveryPlan {
  const servers = serversOf(inventory);
  const ids = servers.map(({ systemId }) => systemId);
  const asked = request.systemId ?? inventory.backups.find(({ id }) => id === request.backup)?.server.systemId;
  const [newest, ...others] = servers.filter(({ systemId }) => asked === undefined || systemId === asked);
  if (newest === undefined) throw unknownServer(inventory.instance, asked, ids);
  if (others.length === 0) return plan(newest);
  if (request.target.type === "latest" || request.target.type === "immediate") {
    const found = plan(newest);
    const older = `the instance has been other servers before, of system id ${others.map(({ systemId }) => systemId).join(", ")}`;
    return { ...found, notes: [...found.notes, `${older}: restore from those by --system-id`] };
  }
  const outcomes = [newest, ...others].map((server) => attempt(() => plan(server)));
  const [first, second] = outcomes.filter((outcome) => "plan" in outcome);
  if (first !== undefined && second === undefined) return first.plan;
  if (first === undefined) throw outcomes.find((outcome) => "error" in outcome)?.error;
  const reachable = outcomes.flatMap((outcome) => ("plan" in outcome ? [outcome.plan.systemId] : []));
  throw new PgkitError("usage", `several servers of ${inventory.instance} could be meant: ${reachable.join(", ")}`, {
    hint: "say which by --system-id; pgkit list shows from when to when each can be restored",
  });
}

/** Newest first, by their newest backup; then those of which only WAL is there. */
function serversOf({ instance, backups, wal, ends }: RecoveryInventory): ServerHistory[] {
  const ids = new Set([
    ...backups.toReversed().map(({ server }) => server.systemId),
    ...wal.map(({ lineage }) => lineage.systemId),
  ]);
  return [...ids].map((systemId) => ({
    instance,
    systemId,
    backups: backups.filter(({ server }) => server.systemId === systemId),
    wal: wal.find(({ lineage }) => lineage.systemId === systemId),
    ends: ends.filter((end) => end.systemId === systemId),
  }));
}

function attempt(plan: () => RecoveryPlan): { plan: RecoveryPlan } | { error: PgkitError } {
  try {
    return { plan: plan() };
  } catch (error) {
    if (isPgkitError(error)) return { error };
    throw error;
  }
}

function unknownServer(instance: string, asked: string | undefined, ids: readonly string[]): PgkitError {
  if (asked === undefined) {
    return new PgkitError("no-backup-for-target", `there is no base backup of ${instance} in the repository`, {
      hint: "pgkit backup base takes one; a database from a logical backup is restored by pgkit restore DB",
    });
  }
  return new PgkitError("usage", `${instance} has never been a server of system id ${asked}`, {
    hint: `there are: ${ids.join(", ") || "none"}`,
  });
}

/** The last transaction that is stored on the way before `endLsn`, `undefined` when there is none. */
export function lastOn(
  legs: readonly Leg[],
  ends: readonly StoredEnd[],
  endLsn: Lsn,
): { timeUs: bigint; lsn: Lsn } | undefined {
  return endsOn(legs, ends, endLsn)
    .flatMap(({ last }) => (last === undefined ? [] : [last]))
    .reduce<StoredEnd["last"]>(
      (newest, last) => (newest === undefined || last.lsn > newest.lsn ? last : newest),
      undefined,
    );
}

/** Where the last record begins that is stored on the way before `endLsn`, `undefined` when there is none. */
export function lastRecordOn(legs: readonly Leg[], ends: readonly StoredEnd[], endLsn: Lsn): Lsn | undefined {
  return endsOn(legs, ends, endLsn)
    .flatMap(({ lastRecordLsn }) => lastRecordLsn ?? [])
    .reduce<Lsn | undefined>((newest, lsn) => (newest === undefined || lsn > newest ? lsn : newest), undefined);
}

function endsOn(legs: readonly Leg[], ends: readonly StoredEnd[], endLsn: Lsn): StoredEnd[] {
  return ends.filter((end) =>
    legs.some((leg) => leg.timeline === end.timeline && end.endLsn <= (leg.endLsn ?? endLsn) && end.endLsn <= endLsn),
  );
}
