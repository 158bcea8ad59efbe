import pLimit from "p-limit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backupLogicalCommand } from "../../src/cli/commands/backup-logical.ts";
import { restoreCommand } from "../../src/cli/commands/restore.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { faultAt, type KindOfFault, kindsOfFault, runClean, runWithFault } from "./stores.ts";
import { configured, databasesOf, errorOf, fingerprint, makeDatabase } from "./support.ts";

let cluster: Cluster;
let wanted = "";
let files: Record<string, string> = {};
/** Each of the three is restored into by one attempt at a time. */
const lanes = ["app0", "app1", "app2"];
const live = new Map<string, string>();
const store = memoryStore();

beforeAll(async () => {
  cluster = await startCluster();
  files = configured({ repository: "/in/memory", url: cluster.url() });
  await makeDatabase(cluster, "app0", 2000);
  await cluster.psql("CREATE TABLE notes AS SELECT i AS id FROM generate_series(1, 500) i", "app0");
  for (const lane of lanes.slice(1)) await cluster.psql(`CREATE DATABASE ${lane} TEMPLATE app0`);
  wanted = await fingerprint(cluster, "app0");
  await runClean(backupLogicalCommand, [], { files }, store);
  for (const lane of lanes) {
    await cluster.psql(`INSERT INTO customers VALUES (0, '${lane}'); INSERT INTO orders VALUES (0, 0, 'newer')`, lane);
    await cluster.psql("DROP TABLE notes", lane);
    live.set(lane, await fingerprint(cluster, lane));
  }
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

interface Way {
  name: string;
  args: (lane: string) => string[];
  kinds: readonly KindOfFault[];
  /** What must hold afterwards, and mends what the attempt has changed. */
  check: (lane: string, done: boolean, said: string) => Promise<void>;
}

const beside: Way = {
  name: "--as",
  args: (lane) => [lane, "--as", `${lane}_copy`],
  kinds: kindsOfFault,
  check: async (lane, done, said) => {
    expect(await fingerprint(cluster, lane), said).toBe(live.get(lane));
    expect(await databasesOf(cluster), said).toEqual(expect.arrayContaining(done ? [`${lane}_copy`] : []));
    if (done) expect(await fingerprint(cluster, `${lane}_copy`), said).toBe(wanted);
    else expect(await databasesOf(cluster), said).not.toContain(`${lane}_copy`);
    await cluster.psql(`DROP DATABASE IF EXISTS ${lane}_copy`);
  },
};

const ways: Way[] = [
  beside,
  {
    name: "--replace",
    args: (lane) => [lane, "--replace", "--yes"],
    kinds: kindsOfFault,
    check: async (lane, done, said) => {
      expect(await fingerprint(cluster, lane), said).toBe(done ? wanted : live.get(lane));
      const kept = (await databasesOf(cluster)).filter((name) => name.startsWith(`${lane}_before_`));
      expect(kept, said).toHaveLength(done ? 1 : 0);
      for (const name of kept) {
        expect(await fingerprint(cluster, name), said).toBe(live.get(lane));
        await cluster.psql(`DROP DATABASE ${lane}`);
        await cluster.psql(`ALTER DATABASE ${name} RENAME TO ${lane}`);
      }
    },
  },
  {
    name: "--table",
    args: (lane) => [lane, "--table", "public.notes"],
    kinds: ["fail", "hang"],
    check: async (lane, done, said) => {
      expect(await fingerprint(cluster, lane), said).toBe(live.get(lane));
      const found = await cluster.psql("SELECT to_regclass('public.notes') IS NOT NULL", lane);
      expect(found, said).toBe(done ? "t" : "f");
      if (done) expect(await cluster.psql("SELECT count(*), sum(id) FROM notes", lane), said).toBe("500|125250");
      await cluster.psql("DROP TABLE IF EXISTS notes", lane);
    },
  },
];

describe.each(ways)("restore $name", (way) => {
  test.each(way.kinds)(
    "whatever call meets this fault: %s",
    async (kind) => {
      const outcomes = await sweep(way, kind, false);
      expect(outcomes.filter(({ status }) => status !== 0).length).toBeGreaterThan(3);
    },
    300_000,
  );
});

test.each(["fail", "lose-reply", "cut-late"] as const)(
  "a restore does not notice one fault where calls are repeated: %s",
  async (kind) => {
    const outcomes = await sweep(beside, kind, true);
    expect(outcomes.filter(({ status }) => status !== 0)).toEqual([]);
  },
  120_000,
);

async function sweep(way: Way, kind: KindOfFault, retries: boolean): Promise<{ status: number; calls: number }[]> {
  const [first = ""] = lanes;
  const untouched = await attempt(way, undefined, retries, first);
  expect(untouched).toMatchObject({ status: 0 });
  expect(untouched.calls).toBeGreaterThan(8);
  const free = [...lanes];
  const limit = pLimit(lanes.length);
  const calls = Array.from({ length: untouched.calls }, (_, index) => index + 1);
  return await Promise.all(
    calls.map((call) =>
      limit(async () => {
        const lane = free.pop() ?? "";
        const outcome = await attempt(way, { kind, call }, retries, lane);
        free.push(lane);
        return outcome;
      }),
    ),
  );
}

async function attempt(
  way: Way,
  fault: { kind: KindOfFault; call: number } | undefined,
  retries: boolean,
  lane: string,
): Promise<{ status: number; calls: number }> {
  const planned = fault && faultAt(fault.kind, fault.call);
  const { ran, calls } = await runWithFault(
    restoreCommand,
    way.args(lane),
    { files },
    { store, fault: planned, retries },
  );
  const said = `${JSON.stringify(fault)} ${ran.status} ${ran.stderr}`;
  const refused = ran.status === 0 ? undefined : [ran.status, errorOf(ran).error.code];
  if (refused !== undefined && fault?.kind === "hang") expect(refused, said).toEqual([130, "cancelled"]);
  else if (refused !== undefined) expect(refused, said).toEqual([13, "store-failed"]);
  await way.check(lane, ran.status === 0, said);
  const left = (await databasesOf(cluster)).filter((name) => name.startsWith(`${lane}_`));
  expect(left, said).toEqual([]);
  return { status: ran.status, calls };
}
