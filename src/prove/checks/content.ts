import { formatBytes } from "../../lib/parse.ts";
import { inZone } from "../../lib/parse-time.ts";
import { listBackups } from "../../repo/backups.ts";
import { leftoverAgeMs } from "../../repo/inventory.ts";
import { heldLeases } from "../../repo/lease.ts";
import { describeTerm, latestTerm } from "../../repo/lease-term.ts";
import type { Manifest } from "../../repo/manifest.ts";
import type { RepositoryReader } from "../../repo/repository.ts";
import type { ObjectStore } from "../../store/store.ts";
import type { Found, Ledger } from "../ledger.ts";
import { short } from "./encryption.ts";
import { some } from "./some.ts";

export interface ContentUnderCheck {
  reader: RepositoryReader;
  store: ObjectStore;
  /** The store's clock minus ours. */
  skewMs: number;
  /** The recipients that the identity file opens, where there is one. */
  keys: readonly string[] | undefined;
}

const slow = { late: "store-unreachable" } as const;

/** What is in a repository. Gives its backups, `undefined` when they cannot be read. */
export async function checkContent(ledger: Ledger, content: ContentUnderCheck): Promise<Manifest[] | undefined> {
  const { reader, store, keys } = content;
  const backups = await ledger.run("manifests", (found) => manifests(found, reader), slow);
  if (backups !== undefined && backups.length > 0 && keys !== undefined) {
    await ledger.run("readable", async (found) => readable(found, newestOfEach(backups), keys));
  }
  await ledger.run("leases", (found) => leases(found, content), slow);
  if (store.uploads !== undefined)
    await ledger.run("uploads", (found) => uploads(found, content), { ...slow, failsAs: "warning" });
  return backups;
}

async function manifests(found: Found, reader: RepositoryReader): Promise<Manifest[]> {
  const { backups, unreadable } = await listBackups(reader, { signal: found.signal });
  for (const { instance, id, error } of unreadable) {
    found.error(`backup ${instance}/${id} cannot be read: ${error.message}`, error.hint ?? "pgkit verify", error.code);
  }
  const newest = backups.at(-1);
  if (newest === undefined) {
    if (unreadable.length === 0) found.ok("there are no backups yet");
    return backups;
  }
  const bytes = backups.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  found.ok(`${backups.length} backup(s), ${formatBytes(bytes)}; the newest is ${newest.id}`);
  return backups;
}

/** Of each database; of base backups that of the instance. */
export function newestOfEach(backups: readonly Manifest[]): Manifest[] {
  const names = (each: Manifest) => JSON.stringify([each.instance, each.kind, each.database]);
  return [...new Map(backups.map((each) => [names(each), each])).values()];
}

/** Recipients change, and the identity file may not have kept up, or no longer hold the former ones. */
function readable(found: Found, newest: readonly Manifest[], keys: readonly string[]) {
  const closed = newest.filter(
    ({ recipients }) => recipients !== undefined && !recipients.some((each) => keys.includes(each)),
  );
  if (closed.length === 0) return found.ok("the identity file opens the newest backup of each database");
  const others = new Set(closed.flatMap(({ recipients = [] }) => recipients.map(short)));
  found.error(
    `the identity file does not open ${some(closed.map(({ id }) => id))}`,
    `add the identity of ${[...others].join(" or ")} to it, or make new backups`,
    "identity-wrong",
  );
}

async function leases(found: Found, { reader, store, skewMs }: ContentUnderCheck): Promise<void> {
  const { signal } = found;
  const storeNow = new Date(found.now().getTime() + skewMs);
  const held = await heldLeases(reader, storeNow, { signal });
  for (const name of held) {
    const term = await latestTerm(store, name, { signal });
    if (term !== undefined) found.ok(`${name} is held by ${describeTerm(term)}`);
  }
  if (held.size === 0) found.ok("nobody is working on it");
}

async function uploads(found: Found, { store, skewMs }: ContentUnderCheck): Promise<void> {
  const before = new Date(found.now().getTime() + skewMs - leftoverAgeMs);
  const stray: Date[] = [];
  for await (const { startedAt } of store.uploads?.list({ signal: found.signal }) ?? []) {
    if (startedAt < before) stray.push(startedAt);
  }
  if (stray.length === 0) return found.ok("no unfinished upload is older than a day");
  const oldest = stray.reduce((first, each) => (each < first ? each : first));
  found.warning(
    `${stray.length} unfinished upload(s), the oldest of ${inZone(oldest, "UTC")}, take space and may cost money`,
    "pgkit prune removes them",
  );
}
