import type { Manifest } from "../repo/manifest.ts";

/**
 * A backup as the contract's JSON has it. It was verified before it existed, or it would not exist; `damage` is what a
 * verification has found since.
 */
export function backupJson(
  manifest: Manifest,
  keptUntil?: string,
  damage: readonly string[] = [],
): Record<string, unknown> {
  const { id, kind, instance, database, startedAt, finishedAt, server, plainBytes, storedBytes, parent, base } =
    manifest;
  const wal = base && { timeline: base.timeline, startLsn: base.startLsn, stopLsn: base.stopLsn };
  return {
    ...{ id, kind, instance, ...(database === undefined ? {} : { database }) },
    ...{ startedAt, finishedAt, server, plainBytes, storedBytes, verified: damage.length === 0 },
    ...(damage.length === 0 ? {} : { problems: damage }),
    ...(keptUntil === undefined ? {} : { keptUntil }),
    ...(parent === undefined ? {} : { parent }),
    ...(base === undefined ? {} : { wal: { timeline: base.timeline, startLsn: base.startLsn, stopLsn: base.stopLsn } }),
    ...(parent === undefined ? {} : { parent }),
    ...(wal === undefined ? {} : { wal }),
  };
}
