import { formatBytes } from "../lib/parse.ts";
import type { Leftover } from "../repo/inventory.ts";
import type { Keep } from "../repo/keep.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { PruneResult } from "../repo/prune.ts";
import type { PrunePlan } from "../repo/retention.ts";
import type { WalPlan } from "../repo/wal-retention.ts";
import { table } from "./text.ts";

/** What a plan is to remove, or a result has removed. */
interface Removals {
  remove: readonly Manifest[];
  leftovers: readonly Leftover[];
  orphanedKeeps: readonly Keep[];
  uploads: number;
  /** WAL files. */
  wal: { files: number; bytes: number };
}

export function removalsOf(plan: PrunePlan<Manifest>): Removals {
  const files = plan.wal.flatMap(({ remove }) => remove);
  const wal = { files: files.length, bytes: files.reduce((sum, { storedBytes }) => sum + storedBytes, 0) };
  return { ...plan, uploads: plan.uploads?.count ?? 0, wal };
}

export function isNothing({ remove, leftovers, orphanedKeeps, uploads, wal }: Removals): boolean {
  return remove.length + leftovers.length + orphanedKeeps.length + uploads + wal.files === 0;
}

/** `3 backups (1.2 GiB), what 1 failed run left (2.0 MiB)`; empty where there is nothing. */
export function summaryOf({ remove, leftovers, orphanedKeeps, uploads, wal }: Removals): string {
  return [
    remove.length === 0
      ? []
      : `${count(remove.length, "backup")} (${size(remove.map(({ storedBytes }) => storedBytes))})`,
    leftovers.length === 0
      ? []
      : `what ${count(leftovers.length, "failed run")} left (${size(leftovers.map(({ bytes }) => bytes))})`,
    uploads === 0 ? [] : count(uploads, "unfinished upload"),
    wal.files === 0 ? [] : `${count(wal.files, "WAL file")} (${formatBytes(wal.bytes)})`,
    orphanedKeeps.length === 0 ? [] : `${count(orphanedKeeps.length, "pin")} of backups that are gone`,
  ]
    .flat()
    .join(", ");
}

/** What came of it, for people. */
export function resultText(results: readonly PruneResult[]): string {
  const removed = {
    remove: results.flatMap((result) => result.removed),
    leftovers: results.flatMap((result) => result.leftovers),
    orphanedKeeps: results.flatMap((result) => result.orphanedKeeps),
    uploads: results.reduce((sum, { uploads }) => sum + uploads, 0),
    wal: {
      files: results.flatMap(({ wal }) => wal).reduce((sum, { files }) => sum + files, 0),
      bytes: results.flatMap(({ wal }) => wal).reduce((sum, { bytes }) => sum + bytes, 0),
    },
  };
  const walSkipped = results.flatMap(({ wal }) => wal).filter(({ skipped }) => skipped !== undefined);
  const skipped = results.flatMap((result) => result.skipped);
  return [
    isNothing(removed) ? "nothing was removed" : `removed ${summaryOf(removed)}`,
    ...skipped.map(({ instance, id, reason }) => `kept after all: ${instance}/${id}, ${reason}`),
    ...walSkipped.map(
      ({ instance, systemId, skipped: why }) => `kept after all: WAL of ${instance}/${systemId}, ${why}`,
    ),
  ].join("\n");
}

/** The plan for people: every backup with what is done with it and why. */
export function pruneText(where: string, plan: PrunePlan<Manifest>): string {
  const keep = plan.keep.map(({ backup, reasons }) => ({ backup, what: "keep", why: reasons.join(", ") }));
  const remove = plan.remove.map((backup) => ({ backup, what: "remove", why: "no rule keeps it" }));
  const rows = [...keep, ...remove].toSorted(
    (a, b) => order(a.backup) - order(b.backup) || compare(a.backup, b.backup),
  );
  const lines = rows.map(({ backup, what, why }) => [what, ...cellsOf(backup), why]);
  const all = [...lines, ...unlistedCells(plan)];
  const columns = ["", "INSTANCE", "DATABASE", "KIND", "BACKUP", "STARTED", "SIZE", "WHY"];
  return [
    where,
    all.length === 0
      ? "there are no backups"
      : table(
          columns.map((title) => (title === "SIZE" ? { title, align: "right" } : { title })),
          all,
        ),
    ...plan.wal.map(walText),
    isNothing(removalsOf(plan)) ? "nothing to remove" : `to remove: ${summaryOf(removalsOf(plan))}`,
  ].join("\n");
}

/** What has no manifest that could be read. */
function unlistedCells({ unreadable, leftovers }: PrunePlan<Manifest>): string[][] {
  return [
    ...unreadable.map(({ instance, id }) => ["keep", instance, "", "", id, "", "", "its manifest cannot be read"]),
    ...leftovers.map(({ instance, id, bytes }) => {
      const size = formatBytes(bytes);
      return ["remove", instance, "", "", id, "", size, "left by a failed run"];
    }),
  ];
}

/** `WAL of shared/7000000000000000001: keep 120 files (1.2 GiB), remove 40 files (300 MiB)`. */
function walText({ lineage, remove, kept, reasons }: WalPlan): string {
  const gone =
    remove.length === 0
      ? ""
      : `, remove ${count(remove.length, "file")} (${size(remove.map((file) => file.storedBytes))})`;
  const why = reasons.length === 0 ? "" : `: ${reasons.join(", ")}`;
  const stays = `keep ${count(kept.files, "file")} (${formatBytes(kept.bytes)})`;
  return `WAL of ${lineage.instance}/${lineage.systemId}: ${stays}${gone}${why}`;
}

/** The plan and, when it was carried out, what came of it. */
export function pruneDocument(
  repository: string,
  plan: PrunePlan<Manifest>,
  result: PruneResult | undefined,
  dryRun: boolean,
): unknown {
  return {
    repository,
    dryRun,
    keep: plan.keep.map(({ backup, reasons }) => ({ ...facts(backup), reasons })),
    remove: plan.remove.map(facts),
    unreadable: plan.unreadable.map(({ instance, id }) => ({ instance, id })),
    leftovers: plan.leftovers,
    uploads: plan.uploads?.count ?? 0,
    wal: plan.wal.map(({ lineage: { instance, systemId }, remove, removeGaps, kept, reasons }) => ({
      ...{ instance, systemId, keep: kept.files, keepBytes: kept.bytes, reasons },
      remove: remove.map(({ key }) => key),
      removeBytes: remove.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      removeGaps: removeGaps.map(({ key }) => key),
    })),
    warnings: plan.warnings,
    ...(result === undefined ? {} : { result: resultOf(result) }),
  };
}

function resultOf({ removed, leftovers, uploads, wal, skipped, refused }: PruneResult): unknown {
  const name = ({ instance, id }: { instance: string; id: string }) => ({ instance, id });
  return {
    removed: removed.map(name),
    leftovers: leftovers.map(name),
    uploads,
    wal: wal.map(({ refused: no, ...each }) => ({ ...each, ...(no === undefined ? {} : { refused: no.message }) })),
    skipped,
    refused: refused.map(({ error, ...backup }) => ({ ...backup, code: error.code, message: error.message })),
  };
}

function facts({ id, kind, instance, database, startedAt, storedBytes }: Manifest): Record<string, unknown> {
  return { id, kind, instance, ...(database === undefined ? {} : { database }), startedAt, storedBytes };
}

function cellsOf({ instance, database, kind, id, startedAt, storedBytes }: Manifest): string[] {
  return [instance, database ?? "", kind, id, startedAt, formatBytes(storedBytes)];
}

function order({ kind }: Manifest): number {
  return kind === "base" ? 1 : 0;
}

function compare(a: Manifest, b: Manifest): number {
  const key = ({ instance, database = "", startedAt, id }: Manifest) => [instance, database, startedAt, id].join("\n");
  return key(a) < key(b) ? -1 : 1;
}

function count(number: number, one: string): string {
  return `${number} ${one}${number === 1 ? "" : "s"}`;
}

function size(bytes: readonly number[]): string {
  return formatBytes(bytes.reduce((sum, each) => sum + each, 0));
}
