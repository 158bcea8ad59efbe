import { PgkitError } from "../lib/errors.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import { type ArchivingFacts, alterSystem, archivingFacts, reloadConfiguration } from "../postgres/archiving.ts";
import type { Connection } from "../postgres/connection.ts";
import { withReplication } from "../postgres/replication.ts";
import { serverFacts } from "../postgres/server-facts.ts";
import type { Session } from "../postgres/session.ts";
import { createSlot, dropSlot } from "../postgres/slot.ts";
import { readArchivingRecord, writeArchivingRecord } from "../repo/archiving-record.ts";
import type { Repository, RepositoryReader } from "../repo/repository.ts";
import { createLineage, type Lineage } from "../repo/wal.ts";
import { type EnablePlan, planEnable, recordOf } from "./enable-plan.ts";
import { ownLineage } from "./own-lineage.ts";
import { configuredValue } from "./setting-values.ts";
import type { EnableRequest } from "./wanted-settings.ts";

export interface PrepareOptions {
  connection: Connection;
  /** Another server may have archived under the instance's name before. */
  newLineage: boolean;
  signal: AbortSignal;
}

export interface Prepared {
  request: EnableRequest;
  facts: ArchivingFacts;
  plan: EnablePlan;
  lineage: Lineage & { segmentBytes: number; serverVersion: string };
  /** System ids of servers that had the instance's name before. */
  others: string[];
  /** True where a repository does not know this server yet. */
  newLineage: boolean;
}

/** A setting that the server takes over at its next start. */
export interface RestartNeeded {
  setting: string;
  running: string;
  configured: string;
  why: string;
}

/** Asks server and repositories, and changes nothing. Fails as `planEnable` and `ownLineage` do. */
export async function prepareEnable(
  session: Session,
  readers: readonly RepositoryReader[],
  asked: Omit<EnableRequest, "inRecovery" | "recorded">,
  { connection, newLineage, signal }: PrepareOptions,
): Promise<Prepared> {
  const server = await serverFacts(session);
  const facts = await archivingFacts(session);
  const lineage = {
    ...{ instance: asked.instance, systemId: server.systemId, serverVersion: server.version },
    segmentBytes: Number(facts.settings.get("wal_segment_size")?.running),
  };
  const recorded = await firstRecord(readers, lineage, signal);
  const request: EnableRequest = { ...asked, inRecovery: server.inRecovery, recorded };
  const plan = planEnable(facts, request);
  const known = await Promise.all(readers.map((reader) => ownLineage(reader, lineage, { newLineage, signal })));
  if (request.method === "stream") await provesReplication(connection, facts, signal);
  return {
    ...{ request, facts, plan, lineage },
    others: [...new Set(known.flatMap(({ others }) => others.map(({ systemId }) => systemId)))],
    newLineage: known.length === 0 || known.some(({ own }) => own === undefined),
  };
}

/** The record of the first repository that has one. */
export async function firstRecord(readers: readonly RepositoryReader[], lineage: Lineage, signal: AbortSignal) {
  for (const reader of readers) {
    const record = await readArchivingRecord(reader, lineage, { signal });
    if (record !== undefined) return record;
  }
  return undefined;
}

/** Does what was prepared, and reads back. Gives what waits for a restart, which is not done here. */
export async function carryOutEnable(
  session: Session,
  repositories: readonly Repository[],
  { request, facts, plan, lineage }: Prepared,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<RestartNeeded[]> {
  const record = recordOf(facts, plan, request, rfc3339(clock.now()));
  for (const repository of repositories) {
    await createLineage(repository, lineage, clock, { signal });
    // Before the first change: what is cut in the middle can be undone.
    await writeArchivingRecord(repository, lineage, record, { signal });
  }
  const { slot } = plan;
  if (slot?.action === "replace") await dropSlot(session, slot.name);
  if (slot?.action === "replace" || slot?.action === "create") await createSlot(session, slot.name);
  for (const { setting, to } of plan.changes) await session.query(alterSystem(setting, to));
  if (plan.changes.length > 0) await reloadConfiguration(session, clock, signal);
  const after = await archivingFacts(session);
  const missed = plan.changes.find(({ setting, to }) => configuredValue(after, setting) !== to);
  if (missed !== undefined) throw notTaken(after, missed);
  return restartNeeded(after);
}

const reasons: Record<string, string> = {
  wal_level: "how much is written to WAL is fixed when the server starts",
  archive_mode: "the process that archives starts with the server",
  max_wal_senders: "their memory is set aside when the server starts",
  max_replication_slots: "their memory is set aside when the server starts",
};

/** What the server takes over at its next start, and why not before. */
export function restartNeeded(facts: ArchivingFacts): RestartNeeded[] {
  return [...facts.settings]
    .filter(([, { pendingRestart }]) => pendingRestart)
    .map(([setting, { running }]) => ({
      ...{ setting, running },
      configured: configuredValue(facts, setting) ?? "",
      why: reasons[setting] ?? "it is read when the server starts",
    }));
}

function notTaken(after: ArchivingFacts, { setting, to }: { setting: string; to: string }): PgkitError {
  const value = configuredValue(after, setting) ?? "";
  const source = after.settings.get(setting)?.source ?? "unknown";
  return new PgkitError(
    "server-settings",
    `${setting} was set to ${to}, and the server still has ${value} (${source})`,
    {
      hint: "pg_file_settings and the server's log say why; run this again after that is corrected",
    },
  );
}

/** A user may have the right, and pg_hba.conf no line for it. */
async function provesReplication(connection: Connection, facts: ArchivingFacts, signal: AbortSignal): Promise<void> {
  const { settings } = facts;
  if (settings.get("max_wal_senders")?.running === "0" || settings.get("wal_level")?.running === "minimal") return;
  await withReplication(connection, { applicationName: "pgkit pitr enable", signal }, (each) => each.identify());
}
