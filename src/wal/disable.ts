import type { Clock } from "../lib/time.ts";
import { type ArchivingFacts, alterSystem, archivingFacts, reloadConfiguration } from "../postgres/archiving.ts";
import { serverFacts } from "../postgres/server-facts.ts";
import type { Session } from "../postgres/session.ts";
import { dropSlot } from "../postgres/slot.ts";
import { removeArchivingRecord } from "../repo/archiving-record.ts";
import type { Repository, RepositoryReader } from "../repo/repository.ts";
import type { Lineage } from "../repo/wal.ts";
import { type DisablePlan, planDisable, refuseWithoutRightsToUndo } from "./disable-plan.ts";
import { firstRecord, type RestartNeeded, restartNeeded } from "./enable.ts";

export interface PreparedDisable {
  lineage: Lineage;
  facts: ArchivingFacts;
  /** `undefined`: no repository knows of anything that pgkit changed on this server. */
  plan: DisablePlan | undefined;
}

/** Asks server and repositories, and changes nothing. Fails as `planDisable` does. */
export async function prepareDisable(
  session: Session,
  readers: readonly RepositoryReader[],
  instance: string,
  signal: AbortSignal,
): Promise<PreparedDisable> {
  const { systemId } = await serverFacts(session);
  const lineage = { instance, systemId };
  const facts = await archivingFacts(session);
  const record = await firstRecord(readers, lineage, signal);
  if (record === undefined) return { lineage, facts, plan: undefined };
  const plan = planDisable(facts, record);
  refuseWithoutRightsToUndo(
    facts,
    plan,
    plan.changes.map(({ setting, to }) => alterSystem(setting, to)),
  );
  return { lineage, facts, plan };
}

/** Undoes what was prepared. Gives what goes on until the server's next start. The stored WAL and backups stay. */
export async function carryOutDisable(
  session: Session,
  repositories: readonly Repository[],
  { lineage, plan }: PreparedDisable & { plan: DisablePlan },
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<RestartNeeded[]> {
  for (const slot of plan.dropSlots) await dropSlot(session, slot);
  for (const { setting, to } of plan.changes) await session.query(alterSystem(setting, to));
  if (plan.changes.length > 0) await reloadConfiguration(session, clock, signal);
  // Last: a run that was cut finds it again, and what is undone already is passed over.
  for (const repository of repositories) await removeArchivingRecord(repository, lineage, { signal });
  return restartNeeded(await archivingFacts(session));
}
