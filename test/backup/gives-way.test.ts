import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { backupLogical } from "../../src/backup/logical.ts";
import { secret } from "../../src/lib/secret.ts";
import { systemClock } from "../../src/lib/time.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { reports, repositoryIn } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
  await cluster.psql("CREATE DATABASE big");
  await cluster.psql(
    `CREATE TABLE big AS SELECT g, repeat(md5(g::text), 40) AS a FROM generate_series(1, 60000) g;
     CREATE TABLE small AS SELECT 1 AS a`,
    "big",
  );
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

async function backup() {
  const store = memoryStore();
  const { events, report } = reports();
  const signal = new AbortController().signal;
  const { host, port, superuser: user, programs } = cluster;
  const password = secret(cluster.password);
  const outcome = await backupLogical(
    {
      ...{ instance: "it", databases: ["big"], include: undefined, exclude: [], connections: 3, jobs: 2 },
      ...{ wholeBelowBytes: 1, countRows: true, lockWaitMs: 200 },
      connection: { hosts: [{ host, port }], user, password, database: "postgres", sslMode: "disable", parameters: {} },
    },
    [{ repository: await repositoryIn(store), signal }],
    { programsFor: async () => programs, pgkitVersion: "0", clock: systemClock, report, signal },
  );
  const files: { key: string }[] = [];
  for await (const file of store.list("files/")) files.push(file);
  const keys = outcome.made.flatMap(({ manifest }) => manifest.files.flatMap(({ volumes }) => volumes));
  expect(files.map(({ key }) => key)).toEqual(keys.map(({ key }) => key).sort());
  return { ...outcome, warnings: events.flatMap((event) => (event.type === "warning" ? [event.message] : [])) };
}

describe("a backup gives way to DDL that waits for it, so that nobody waits for its end,", () => {
  it("and begins anew, with what the DDL has changed", async () => {
    const other = await cluster.connect("big");
    const running = backup();
    await eventually(async () => {
      const { rows } = await other.query("SELECT FROM pg_stat_progress_copy");
      expect(rows.length).toBeGreaterThan(0);
    });
    await other.query("ALTER TABLE small ADD COLUMN b int; INSERT INTO small VALUES (2, 3)");
    await other.end();
    const { made, failures, warnings } = await running;
    expect(failures).toEqual([]);
    expect(warnings).toEqual([expect.stringContaining("it/big gave way")]);
    expect(made[0]?.manifest.logical?.tables).toContainEqual(expect.objectContaining({ name: "small", rows: 2 }));
  });

  it("and is named when it had to twice", async () => {
    const other = await cluster.connect("big");
    await other.query("BEGIN; ALTER TABLE small ADD COLUMN c int");
    const { made, failures } = await backup();
    await other.query("ROLLBACK");
    await other.end();
    expect(made).toEqual([]);
    expect(failures).toMatchObject([{ database: "big", error: { message: expect.stringContaining("lock timeout") } }]);
  });
});
