import { parseLsn } from "../lib/lsn.ts";
import { formatBytes } from "../lib/parse.ts";
import { rfc3339 } from "../lib/time.ts";
import type { HealthFinding, HealthInput, SetUp } from "./health.ts";
import type { StoredLineage, StoredWal } from "./stored-wal.ts";

/** What each repository has of it, and whether that can be restored. */
export function storedFindings(input: HealthInput, setUp: SetUp): HealthFinding[] {
  if (!setUp.meant) return [];
  return input.stored.flatMap((stored) => storedIn(input, stored, setUp));
}

function storedIn(input: HealthInput, { repository, lineages }: StoredWal, setUp: SetUp): HealthFinding[] {
  const { server, expected } = input;
  const own = server === undefined ? lineages.at(-1) : lineages.find(({ systemId }) => systemId === server.systemId);
  if (own !== undefined) return [last(input, repository, own), ...usable(own, repository, expected.instance)];
  const other = lineages.at(-1);
  if (server !== undefined && other !== undefined) {
    return [
      {
        ...{ name: "stored wal", level: "alert", code: "system-mismatch" },
        message: `the server is the system ${server.systemId}, and the WAL in ${repository} is of ${other.systemId}`,
        remedy: `after pg_upgrade, or when it was made anew: pgkit pitr enable ${expected.instance} --new-lineage; else correct its url`,
      },
    ];
  }
  const message = `nothing of it is stored in ${repository} yet`;
  if (!setUp.byCommand && !setUp.bySlot) return [{ name: "stored wal", level: "ok", message }];
  return [{ name: "stored wal", level: "warn", message, remedy: "see the other findings on archiving" }];
}

function last({ server }: HealthInput, repository: string, { timelines, systemId }: StoredLineage): HealthFinding {
  const newest = timelines.find(({ timeline }) => timeline === server?.health.timeline) ?? timelines.at(-1);
  if (newest === undefined) {
    return { name: "stored wal", level: "ok", message: `none of ${systemId} yet in ${repository}` };
  }
  const behind = server === undefined ? 0n : parseLsn(server.health.currentLsn) - parseLsn(newest.toLsn);
  const open = behind > 0n ? `; ${formatBytes(Number(behind))} after it are not a complete segment there yet` : "";
  const until = `up to ${newest.toLsn} on timeline ${newest.timeline}, ${newest.lastFile} at ${rfc3339(newest.lastStoredAt)}`;
  return { name: "stored wal", level: "ok", message: `${repository} has it ${until}${open}` };
}

/** WAL is worth something only behind a base backup, and without a gap from there on. */
function usable(lineage: StoredLineage, repository: string, instance: string): HealthFinding[] {
  const remedy = `pgkit backup base --instance ${instance}`;
  const newest = lineage.baseBackups.at(-1);
  if (newest === undefined) {
    const message = `there is no base backup of ${lineage.systemId} in ${repository}: its WAL alone restores nothing`;
    return [{ name: "base backup", level: "alert", message, remedy }];
  }
  const missing = gapsOf(lineage).filter(
    ({ timeline, toLsn }) => timeline === newest.timeline && parseLsn(toLsn) > parseLsn(newest.startLsn),
  );
  const [first] = missing;
  if (first === undefined) {
    return [{ name: "base backup", level: "ok", message: `the newest is ${newest.id}, with all WAL since` }];
  }
  const message = `WAL from ${first.fromLsn} to ${first.toLsn} is missing in ${repository}, and no base backup is newer: nothing after it can be restored`;
  return [{ name: "base backup", level: "alert", code: "wal-gap", message, remedy }];
}

function gapsOf({ timelines, recordedGaps }: StoredLineage): { timeline: number; fromLsn: string; toLsn: string }[] {
  return [
    ...timelines.flatMap(({ timeline, missing }) => missing.map((gap) => ({ timeline, ...gap }))),
    ...recordedGaps,
  ].toSorted((a, b) => Number(parseLsn(a.fromLsn) - parseLsn(b.fromLsn)));
}
