import type { PostEntry } from "./post-data.ts";

/** Entries that one pg_restore makes one after the other. */
export interface Build {
  entries: readonly PostEntry[];
  /** The tables it locks, by the source's oids. */
  tables: ReadonlySet<number>;
  /** A constraint locks its table against all others; an index only against those. */
  exclusive: boolean;
  cost: number;
}

/** Indexes, and constraints that are one; of materialized views they come after their rows. */
export function isBuild({ type, table, ofView }: PostEntry): boolean {
  return table !== undefined && !ofView && (type === "INDEX" || type === "CONSTRAINT");
}

/** What costs less is made with others like it: starting a program takes as long. */
export const smallCost = 4 * 1024 ** 2;
const mostSmall = 50;

/**
 * Cuts indexes and constraints into builds, the most expensive first: each big one alone, the small ones of a table together
 * and with those of other tables.
 */
export function planBuilds(entries: readonly PostEntry[]): Build[] {
  const big = entries.filter(({ cost }) => cost >= smallCost).map((entry) => buildOf([entry]));
  const batches: PostEntry[][] = [];
  for (const group of byTable(entries.filter(({ cost }) => cost < smallCost))) {
    const last = batches.at(-1);
    if (last !== undefined && last.length + group.length <= mostSmall) last.push(...group);
    else batches.push([...group]);
  }
  return [...big, ...batches.map(buildOf)].toSorted((a, b) => b.cost - a.cost);
}

/** Tables that come one by one, of which only those that are there can be built on. */
export interface ComingTables {
  has(table: number): boolean;
  /** Resolves when one more is there. */
  next(): Promise<void>;
}

/**
 * Runs the builds, `jobs` at once: always the first one whose tables are there and that no running one would hold up. Stops
 * at the first failure.
 */
export async function runBuilds(
  builds: readonly Build[],
  jobs: number,
  run: (build: Build) => Promise<void>,
  coming?: ComingTables,
): Promise<void> {
  const left = [...builds];
  const running = new Map<Build, Promise<void>>();
  const failures: unknown[] = [];
  const isReady = ({ tables }: Build) => coming === undefined || [...tables].every((table) => coming.has(table));
  while (left.length > 0 || running.size > 0) {
    const free = (build: Build) => [...running.keys()].every((other) => !wouldWait(build, other));
    const next = left.findIndex((build) => isReady(build) && free(build));
    const build = failures.length === 0 && running.size < jobs ? left[next] : undefined;
    if (build === undefined) {
      if (failures.length > 0 && running.size === 0) break;
      const more = coming === undefined || left.every(isReady) ? [] : [coming.next()];
      await Promise.race([...running.values(), ...more]);
      continue;
    }
    left.splice(next, 1);
    const work = run(build)
      .catch((error: unknown) => void failures.push(error))
      .finally(() => running.delete(build));
    running.set(build, work);
  }
  if (failures.length > 0) throw failures[0];
}

function wouldWait(build: Build, other: Build): boolean {
  if (!build.exclusive && !other.exclusive) return false;
  return [...build.tables].some((table) => other.tables.has(table));
}

function buildOf(entries: readonly PostEntry[]): Build {
  return {
    entries,
    tables: new Set(entries.flatMap(({ table }) => table ?? [])),
    exclusive: entries.some(({ type }) => type === "CONSTRAINT"),
    cost: entries.reduce((sum, { cost }) => sum + cost, 0),
  };
}

function byTable(entries: readonly PostEntry[]): PostEntry[][] {
  const groups = new Map<number | undefined, PostEntry[]>();
  for (const entry of entries) groups.set(entry.table, [...(groups.get(entry.table) ?? []), entry]);
  return [...groups.values()];
}
