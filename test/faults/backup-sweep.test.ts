import { generateIdentity, identityToRecipient } from "age-encryption";
import pLimit from "p-limit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backupLogicalCommand } from "../../src/cli/commands/backup-logical.ts";
import { pruneCommand } from "../../src/cli/commands/prune.ts";
import { restoreCommand } from "../../src/cli/commands/restore.ts";
import { verifyCommand } from "../../src/cli/commands/verify.ts";
import { listBackups } from "../../src/repo/backups.ts";
import { openRepository } from "../../src/repo/repository.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { keysOf, settings } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { faultAt, type KindOfFault, kindsOfFault, movableClock, runClean, runWithFault } from "./stores.ts";
import { configured, errorOf, fingerprint, makeDatabase, seeded } from "./support.ts";

const identity = await generateIdentity();
const recipient = await identityToRecipient(identity);

let cluster: Cluster;
let wanted = "";

beforeAll(async () => {
  cluster = await startCluster();
  await makeDatabase(cluster, "app", 2000);
  wanted = await fingerprint(cluster, "app");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

interface Variant {
  name: string;
  retries: boolean;
  encrypted: boolean;
  /** A store without checksums has every file read back. */
  lacks: ("checksum" | "createIfAbsent")[];
  kinds: readonly KindOfFault[];
}

const variants: Variant[] = [
  { name: "files read back", retries: false, encrypted: false, lacks: ["checksum"], kinds: kindsOfFault },
  { name: "retries and encryption", retries: true, encrypted: true, lacks: [], kinds: ["fail", "lose-reply", "cut"] },
  {
    ...{ name: "conditions ignored", retries: false, encrypted: false },
    ...{ lacks: ["createIfAbsent"], kinds: ["lose-reply", "gone"] },
  },
];

describe.each(variants)("backup logical over a store with $name", (variant) => {
  test.each(variant.kinds)(
    "whatever call meets this fault: %s",
    async (kind) => {
      const untouched = await attempt(variant, undefined, 0);
      expect(untouched).toMatchObject({ listed: 1, status: 0 });
      expect(untouched.calls).toBeGreaterThan(12);
      const dice = seeded(untouched.calls);
      const limit = pLimit(kind === "hang" ? 8 : 3);
      const calls = Array.from({ length: untouched.calls }, (_, index) => index + 1);
      const outcomes = await Promise.all(calls.map((call) => limit(() => attempt(variant, { kind, call }, dice()))));
      const failed = outcomes.filter(({ status }) => status !== 0).length;
      // What fails before anything was sent is repeated and does no harm; else the sweep has to have met the run.
      if (variant.retries && kind === "fail") expect(failed).toBe(0);
      else expect(failed).toBeGreaterThan(2);
    },
    240_000,
  );
});

describe("backup logical into two repositories, of which one fails", () => {
  const kinds = ["fail", "lose-reply", "cut", "gone"] as const;
  test.each(kinds)(
    "at whatever call, by this fault: %s",
    async (kind) => {
      const untouched = await attemptOfTwo(undefined);
      expect(untouched).toMatchObject({ status: 0, listed: 1 });
      const limit = pLimit(3);
      const calls = Array.from({ length: untouched.calls }, (_, index) => index + 1);
      const outcomes = await Promise.all(calls.map((call) => limit(() => attemptOfTwo({ kind, call }))));
      expect(outcomes.filter(({ status }) => status === 3).length).toBeGreaterThan(3);
    },
    240_000,
  );
});

/** The first repository has a whole backup whatever happens to the second, and what failed is named. */
async function attemptOfTwo(fault: { kind: KindOfFault; call: number } | undefined) {
  const clock = movableClock();
  const stores = { good: memoryStore({ clock }), bad: memoryStore({ clock, lacks: ["checksum"] }) };
  const repositories = Object.keys(stores).map((name) => ({ name, url: `/in/memory/${name}` }));
  const instances = { shared: { url: cluster.url(), retention: { logical: { keepLast: 10 } } } };
  const options = { files: configured({ repositories, instances, lease: { ttl: "12s" } }), clock };
  const { ran, calls } = await runWithFault(backupLogicalCommand, ["app"], options, {
    ...{ store: stores.bad, retries: false, fault: fault && faultAt(fault.kind, fault.call) },
    others: ({ name }) => (name === "good" ? stores.good : undefined),
  });
  const said = `${JSON.stringify(fault)} ${ran.status} ${ran.stderr}`;
  const [listedInGood, listed] = [await listedIn(stores.good), await listedIn(stores.bad)];
  expect(listedInGood, said).toHaveLength(1);
  await runClean(verifyCommand, [], options, stores.good);
  if (listed.length > 0) await runClean(verifyCommand, [], options, stores.bad);
  const { backups, failures = [] } = JSON.parse(ran.stdout);
  expect(
    backups.map(({ id }: { id: string }) => id),
    said,
  ).toContain(listedInGood[0]);
  if (ran.status === 0) expect([failures, listed.length], said).toEqual([[], 1]);
  else expect([ran.status, failures], said).toEqual([3, [failureOfBad]]);
  return { listed: listed.length, calls, status: ran.status };
}

const failureOfBad = expect.objectContaining({
  ...{ code: "store-failed", repository: expect.any(String), message: expect.stringContaining("as planned") },
});

/** One backup into a new repository, and all that must hold after it, whatever went wrong. */
async function attempt(
  { retries, encrypted, lacks }: Variant,
  fault: { kind: KindOfFault; call: number } | undefined,
  dice: number,
): Promise<{ listed: number; calls: number; status: number }> {
  const clock = movableClock();
  const store = memoryStore({ clock, lacks });
  const options = { files: files(encrypted), clock };
  const planned = fault && faultAt(fault.kind, fault.call);
  const { ran, calls } = await runWithFault(backupLogicalCommand, ["app"], options, {
    ...{ store, retries, identity, fault: planned },
  });
  const said = `${JSON.stringify(fault)} ${ran.status} ${ran.stderr}`;
  const listed = await listedIn(store);
  expectRightStatus(ran, fault?.kind, listed.length, said);
  if (listed.length > 0) await runClean(verifyCommand, [], options, store, identity);
  if (listed.length > 0 && dice < 0.1) await inTurn(() => restoreAndCompare(store, options, "copy"));
  // Time for a lease that could not be given back to end.
  clock.ahead(10 * 60_000);
  const again = dice < 0.4 ? 1 : 0;
  if (again === 1) await runClean(backupLogicalCommand, ["app"], options, store, identity);
  clock.ahead(2 * 86_400_000);
  if (listed.length + again > 0) {
    await runClean(pruneCommand, ["--yes", "--single-writer"], options, store, identity);
    await expectOnlyWhatIsListed(store, listed, again, said);
  }
  return { listed: listed.length, calls, status: ran.status };
}

function files(encrypted: boolean): Record<string, string> {
  const retention = { logical: { keepLast: 10 } };
  return configured({
    repository: "/in/memory",
    instances: { shared: { url: cluster.url(), retention } },
    lease: { ttl: "12s" },
    ...(encrypted ? { encryption: { recipients: [recipient] } } : {}),
  });
}

/** Done means that it is there. What failed says so by the store's code, what was stopped by 130. */
function expectRightStatus(
  ran: { status: number; stderr: string },
  kind: KindOfFault | undefined,
  listed: number,
  said: string,
): void {
  if (ran.status === 0) expect(listed, said).toBe(1);
  else if (kind === "hang") expect([ran.status, errorOf(ran).error.code], said).toEqual([130, "cancelled"]);
  else expect([ran.status, errorOf(ran).error.code], said).toEqual([13, "store-failed"]);
}

async function listedIn(store: ObjectStore): Promise<string[]> {
  if ((await store.head("pgkit.json")) === undefined) return [];
  const { backups, unreadable } = await listBackups(await openRepository(store, settings));
  expect(unreadable).toEqual([]);
  return backups.map(({ id }) => id);
}

const inTurn = pLimit(1);

async function restoreAndCompare(
  store: ObjectStore,
  options: Parameters<typeof runClean>[2],
  name: string,
): Promise<void> {
  await runClean(restoreCommand, ["app", "--as", name], options, store, identity);
  expect(await fingerprint(cluster, name)).toBe(wanted);
  await cluster.psql(`DROP DATABASE "${name}"`);
}

/** What was listed before is still there, and no file but those of the backups. */
async function expectOnlyWhatIsListed(
  store: ObjectStore,
  before: readonly string[],
  added: number,
  said: string,
): Promise<void> {
  const { backups } = await listBackups(await openRepository(store, settings));
  const ids = backups.map(({ id }) => id);
  expect(ids, said).toEqual(expect.arrayContaining([...before]));
  expect(ids, said).toHaveLength(before.length + added);
  const wantedKeys = backups.flatMap((backup) => backup.files.flatMap((file) => file.volumes.map(({ key }) => key)));
  expect(await keysOf(store, "files/"), said).toEqual(wantedKeys.sort());
}
