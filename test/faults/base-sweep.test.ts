import pLimit from "p-limit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { backupBaseCommand } from "../../src/cli/commands/backup-base.ts";
import { verifyCommand } from "../../src/cli/commands/verify.ts";
import { listBackups } from "../../src/repo/backups.ts";
import { openRepository } from "../../src/repo/repository.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { keysOf, settings } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { faultAt, type KindOfFault, movableClock, runClean, runWithFault } from "./stores.ts";
import { configured, errorOf } from "./support.ts";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

const args = ["--with-wal"];

test.each(["fail", "lose-reply", "cut", "cut-late", "hang", "gone"] as const)(
  "backup base over a store of which any call meets this fault: %s",
  async (kind) => {
    const untouched = await attempt(undefined);
    expect(untouched).toMatchObject({ listed: 1, status: 0 });
    const limit = pLimit(3);
    const calls = Array.from({ length: untouched.calls }, (_, index) => index + 1);
    const outcomes = await Promise.all(calls.map((call) => limit(() => attempt({ kind, call }))));
    expect(outcomes.filter(({ status }) => status !== 0).length).toBeGreaterThan(2);
  },
  180_000,
);

/** One backup into a new repository, and all that must hold after it, whatever went wrong. */
async function attempt(fault: { kind: KindOfFault; call: number } | undefined) {
  const clock = movableClock();
  // Without checksums of its own, so that every file is read back.
  const store = memoryStore({ clock, lacks: ["checksum"] });
  const instances = { shared: { url: cluster.url() } };
  const options = { files: configured({ repository: "/in/memory", instances, lease: { ttl: "12s" } }), clock };
  const planned = fault && faultAt(fault.kind, fault.call);
  const { ran, calls } = await runWithFault(backupBaseCommand, args, options, {
    store,
    retries: false,
    fault: planned,
  });
  const said = `${JSON.stringify(fault)} ${ran.status} ${ran.stderr}`;
  const listed = await listedIn(store);
  if (ran.status === 0) expect(listed, said).toHaveLength(1);
  else if (fault?.kind === "hang") expect([ran.status, errorOf(ran).error.code], said).toEqual([130, "cancelled"]);
  else expect([ran.status, errorOf(ran).error.code], said).toEqual([13, "store-failed"]);
  if (listed.length > 0) await runClean(verifyCommand, [], options, store);
  const owners = new Set((await keysOf(store, "files/")).map((key) => key.split("/")[2]));
  for (const id of listed) expect([...owners], said).toContain(id);
  return { listed: listed.length, calls, status: ran.status };
}

async function listedIn(store: ObjectStore): Promise<string[]> {
  if ((await store.head("pgkit.json")) === undefined) return [];
  const { backups, unreadable } = await listBackups(await openRepository(store, settings));
  expect(unreadable).toEqual([]);
  return backups.map(({ id }) => id);
}
