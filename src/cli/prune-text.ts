import { formatBytes } from "../lib/parse.ts";
import type { Leftover } from "../repo/inventory.ts";
import type { Keep } from "../repo/keep.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { PruneResult } from "../repo/prune.ts";
import type { PrunePlan } from "../repo/retention.ts";
import { table } from "./text.ts";

/** What a plan is to remove, or a result has removed. */
interface Removals {
  remove: readonly Manifest[];
  leftovers: readonly Leftover[];
  orphanedKeeps: readonly Keep[];
  uploads: number;
}

export function removalsOf(plan: PrunePlan<Manifest>): Removals {
  return { ...plan, uploads: plan.uploads?.count ?? 0 };
}

export function isNothing({ remove, leftovers, orphanedKeeps, uploads }: Removals): boolean {
  return remove.length + leftovers.length + orphanedKeeps.length + uploads === 0;
}

/** `3 backups (1.2 GiB), what 1 failed run left (2.0 MiB)`; empty where there is nothing. */
export function summaryOf({ remove, leftovers, orphanedKeeps, uploads }: Removals): string {
  return [
    remove.length === 0
      ? []
      : `${count(remove.length, "backup")} (${size(remove.map(({ storedBytes }) => storedBytes))})`,
    leftovers.length === 0
      ? []
      : `what ${count(leftovers.length, "failed run")} left (${size(leftovers.map(({ bytes }) => bytes))})`,
    uploads === 0 ? [] : count(uploads, "unfinished upload"),
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
  };
  const skipped = results.flatMap((result) => result.skipped);
  return [
    isNothing(removed) ? "nothing was removed" : `removed ${summaryOf(removed)}`,
    ...skipped.map(({ instance, id, reason }) => `kept after all: ${instance}/${id}, ${reason}`),
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
  const unreadable = plan.unreadable.map(({ instance, id }) => [
    "keep",
    instance,
    "",
    "",
    id,
    "",
    "",
    "its manifest cannot be read",
  ]);
  const leftovers = plan.leftovers.map(({ instance, id, bytes }) => [
    "remove",
    instance,
    "",
    "",
    id,
    "",
    formatBytes(bytes),
    "left by a failed run",
  ]);
  const all = [...lines, ...unreadable, ...leftovers];
  const columns = ["", "INSTANCE", "DATABASE", "KIND", "BACKUP", "STARTED", "SIZE", "WHY"];
  return [
    where,
    all.length === 0
      ? "there are no backups"
      : table(
          columns.map((title) => (title === "SIZE" ? { title, align: "right" } : { title })),
          all,
        ),
    isNothing(removalsOf(plan)) ? "nothing to remove" : `to remove: ${summaryOf(removalsOf(plan))}`,
  ].join("\n");
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
    warnings: plan.warnings,
    ...(result === undefined ? {} : { result: resultOf(result) }),
  };
}

function resultOf({ removed, leftovers, uploads, skipped, refused }: PruneResult): unknown {
  const name = ({ instance, id }: { instance: string; id: string }) => ({ instance, id });
  return {
    removed: removed.map(name),
    leftovers: leftovers.map(name),
    uploads,
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
