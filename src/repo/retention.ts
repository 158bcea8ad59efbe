import { rfc3339 } from "../lib/time.ts";
import type { Inventory, Leftover } from "./inventory.ts";
import { describeKeep, isPinned, type Keep } from "./keep.ts";
import type { Manifest } from "./manifest.ts";
import {
  applyRules,
  assertKeepsSomething,
  type Calendar,
  calendar,
  hasRules,
  type RetentionRules,
} from "./retention-rules.ts";
import type { WalPlan } from "./wal-retention.ts";

/** What retention needs to know of a backup. A parent is the backup that an incremental one builds on. */
export type PrunableBackup = Pick<
  Manifest,
  "id" | "instance" | "kind" | "database" | "parent" | "startedAt" | "server" | "base"
>;

/** Both kinds of an instance. An instance without a policy keeps everything. */
export type RetentionPolicy = Readonly<Record<Manifest["kind"], RetentionRules>>;

export interface PruneInput<B extends PrunableBackup> {
  now: Date;
  /** Where hours, days, weeks, months and years begin. */
  timeZone: string;
  backups: readonly B[];
  unreadable: readonly BackupName[];
  keeps: readonly Keep[];
  leftovers: readonly Leftover[];
  uploads?: Inventory["uploads"];
  /** By instance. */
  policies: ReadonlyMap<string, RetentionPolicy>;
  /** `nameOf` those that a verification found damaged: they push no other out. */
  bad?: ReadonlySet<string> | undefined;
  /** `nameOf` those that the store refuses to remove before a moment. */
  locked?: ReadonlyMap<string, Date> | undefined;
  /** Instances of which a backup is under way: it may build on any of their base backups. */
  busy?: ReadonlySet<string> | undefined;
  /** `nameOf` further base backups that a window needs, with the reason: see `windowAnchors`. */
  anchors?: ReadonlyMap<string, string> | undefined;
}

export interface PrunePlan<B extends PrunableBackup = PrunableBackup> {
  /** Oldest first, each with every reason for it. */
  keep: { backup: B; reasons: string[] }[];
  /** In the order to remove them: a backup before the one it builds on, else oldest first. */
  remove: B[];
  /** Kept, as nothing is known of them. */
  unreadable: BackupName[];
  leftovers: Leftover[];
  uploads: Inventory["uploads"];
  /** `nameOf` those of `keep` that nothing but a pin keeps, or that only such a one builds on. */
  pinOnly: ReadonlySet<string>;
  /** By lineage; empty unless the repository was asked. */
  wal: WalPlan[];
  /** Pins whose backup is gone. */
  orphanedKeeps: Keep[];
  warnings: string[];
}

export interface BackupName {
  instance: string;
  id: string;
}

/** The backup's name among those of all instances. */
export function nameOf({ instance, id }: BackupName): string {
  return `${instance}/${id}`;
}

/**
 * What to keep and what to remove. Pure. Whatever the policies say, it never removes the last good backup of a database
 * of a server, a pinned one, one that a kept one builds on, or anything whose manifest cannot be read. Fails with
 * `config` for a policy that would keep nothing.
 */
export function planPrune<B extends PrunableBackup>(input: PruneInput<B>): PrunePlan<B> {
  for (const [instance, policy] of input.policies) {
    for (const kind of ["logical", "base"] as const)
      assertKeepsSomething(policy[kind], `${kind} backups of ${instance}`);
  }
  const warnings: string[] = [];
  const reasons = new Map<string, Set<string>>();
  const keep: Keeper = (backup, reason) => {
    const name = nameOf(backup);
    reasons.set(name, (reasons.get(name) ?? new Set()).add(reason));
  };
  const times = calendar(input.now, input.timeZone);
  for (const group of groupsOf(input.backups)) keepOfGroup(group, input, times, keep, warnings);
  keepWhateverTheRules(input, keep);
  keepParents(input.backups, reasons, keep);
  const ordered = input.backups.toSorted(byStart);
  const strong = strongOf(input, reasons);
  return {
    keep: ordered.flatMap((backup) => {
      const why = reasons.get(nameOf(backup));
      return why === undefined ? [] : [{ backup, reasons: [...why] }];
    }),
    remove: childrenFirst(ordered.filter((backup) => !reasons.has(nameOf(backup)))),
    ...withoutManifest(input),
    pinOnly: new Set([...reasons.keys()].filter((name) => !strong.has(name))),
    wal: [],
    warnings,
  };
}

type Keeper = (backup: BackupName, reason: string) => void;

/** A host's clock may be a little ahead of another's; more than this is a clock that jumped. */
const clockToleranceMs = 5 * 60_000;

/** Of one database (or, for base backups, all of them) of one server: a server made anew has another system id. */
function groupsOf<B extends PrunableBackup>(backups: readonly B[]): B[][] {
  const groups = Map.groupBy(backups, ({ instance, server, kind, database }) =>
    JSON.stringify([instance, server.systemId, kind, database]),
  );
  return [...groups.values()].map((group) => group.toSorted(byStart).reverse());
}

function keepOfGroup<B extends PrunableBackup>(
  group: readonly B[],
  { policies, bad = new Set() }: PruneInput<B>,
  times: Calendar,
  keep: Keeper,
  warnings: string[],
): void {
  const [first] = group;
  if (first === undefined) return;
  const isFuture = ({ startedAt }: B) => Date.parse(startedAt) > times.now.getTime() + clockToleranceMs;
  for (const backup of group.filter(isFuture)) {
    keep(backup, "from the future");
    warnings.push(`${nameOf(backup)} started in the future, at ${backup.startedAt}: it is kept and does not count`);
  }
  const past = group.filter((backup) => !isFuture(backup));
  const good = past.filter((backup) => !bad.has(nameOf(backup)));
  const rules = policies.get(first.instance)?.[first.kind] ?? {};
  if (!hasRules(rules)) for (const backup of past) keep(backup, "no retention is configured");
  // Over the good ones alone, so that a damaged one pushes no good one out; and over all, as it may still be of use.
  for (const list of [good, past]) {
    for (const { backup, reason } of applyRules(rules, list, times)) keep(backup, reason);
  }
  const of = first.database === undefined ? first.instance : `${first.instance}/${first.database}`;
  if (good[0] !== undefined) keep(good[0], `last verified backup of ${of}`);
  else if (past[0] !== undefined) keep(past[0], `last backup of ${of}, although damaged`);
}

function keepWhateverTheRules<B extends PrunableBackup>(
  { backups, keeps, locked, unreadable, busy, anchors, now }: PruneInput<B>,
  keep: Keeper,
): void {
  const pins = new Map(keeps.filter((pin) => isPinned(pin, now)).map((pin) => [nameOf(pin), pin]));
  const unread = new Map(unreadable.map(({ instance, id }) => [instance, id]));
  for (const backup of backups) {
    const pin = pins.get(nameOf(backup));
    if (pin !== undefined) keep(backup, describeKeep(pin));
    const lockedUntil = locked?.get(nameOf(backup));
    if (lockedUntil !== undefined && lockedUntil > now) keep(backup, `under object lock until ${rfc3339(lockedUntil)}`);
    const anchor = anchors?.get(nameOf(backup));
    if (anchor !== undefined) keep(backup, anchor);
    if (backup.kind === "base" && busy?.has(backup.instance))
      keep(backup, `a backup of ${backup.instance} is under way`);
    const child = backup.kind === "base" ? unread.get(backup.instance) : undefined;
    if (child !== undefined) keep(backup, `may be the parent of ${child}, whose manifest cannot be read`);
  }
}

/** The whole chain that each kept one builds on, or none of it could be restored. */
function keepParents(
  backups: readonly PrunableBackup[],
  kept: ReadonlyMap<string, ReadonlySet<string>>,
  keep: Keeper,
): void {
  const byName = new Map(backups.map((backup) => [nameOf(backup), backup]));
  const todo = [...kept.keys()].toSorted();
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    const child = byName.get(name);
    const parent = child && parentOf(child, byName);
    if (child === undefined || parent === undefined) continue;
    if (!kept.has(nameOf(parent))) todo.push(nameOf(parent));
    keep(parent, `${parentReason}${child.id}`);
  }
}

/** Those that something else than a pin keeps, and all that these build on. */
function strongOf(
  { backups, keeps, now }: PruneInput<PrunableBackup>,
  reasons: ReadonlyMap<string, ReadonlySet<string>>,
): Set<string> {
  const byName = new Map(backups.map((backup) => [nameOf(backup), backup]));
  const pins = new Map(keeps.filter((pin) => isPinned(pin, now)).map((pin) => [nameOf(pin), describeKeep(pin)]));
  const strong = new Set<string>();
  for (const [name, why] of reasons) {
    const own = [...why].some((reason) => reason !== pins.get(name) && !reason.startsWith(parentReason));
    for (let at = own ? byName.get(name) : undefined; at !== undefined && !strong.has(nameOf(at)); ) {
      strong.add(nameOf(at));
      at = parentOf(at, byName);
    }
  }
  return strong;
}

const parentReason = "parent of ";

function parentOf<B extends PrunableBackup>(backup: B, byName: ReadonlyMap<string, B>): B | undefined {
  return backup.parent === undefined ? undefined : byName.get(nameOf({ instance: backup.instance, id: backup.parent }));
}

/** So that whenever a run is cut, no backup is left without the one it builds on. */
function childrenFirst<B extends PrunableBackup>(backups: readonly B[]): B[] {
  const byName = new Map(backups.map((backup) => [nameOf(backup), backup]));
  const depthOf = (backup: B): number => {
    const seen = new Set<B>();
    for (let at: B | undefined = backup; at !== undefined && !seen.has(at); at = parentOf(at, byName)) seen.add(at);
    return seen.size;
  };
  const depths = new Map(backups.map((backup) => [backup, depthOf(backup)]));
  return backups.toSorted((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0));
}

function withoutManifest<B extends PrunableBackup>({
  backups,
  unreadable,
  keeps,
  leftovers,
  uploads,
  now,
}: PruneInput<B>): Pick<PrunePlan<B>, "unreadable" | "leftovers" | "uploads" | "orphanedKeeps"> {
  const exists = new Set([...backups, ...unreadable].map(nameOf));
  const garbage = new Set(leftovers.map(nameOf));
  const pinned = new Set(keeps.filter((keep) => isPinned(keep, now)).map(nameOf));
  return {
    unreadable: [...unreadable],
    // The files of a pinned backup whose manifest is gone may be all that is left of something dear.
    leftovers: leftovers.filter((leftover) => !exists.has(nameOf(leftover)) && !pinned.has(nameOf(leftover))),
    uploads,
    orphanedKeeps: keeps.filter((keep) => !exists.has(nameOf(keep)) && !garbage.has(nameOf(keep))),
  };
}

function byStart(a: PrunableBackup, b: PrunableBackup): number {
  return Date.parse(a.startedAt) - Date.parse(b.startedAt) || (nameOf(a) < nameOf(b) ? -1 : 1);
}
