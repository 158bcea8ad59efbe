import { afterAll, beforeAll, expect, test } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({ shared: { cluster, settings: ["wholeBelow: 1MiB"] } });
  await cluster.psql("CREATE DATABASE big");
  await cluster.psql(
    "CREATE TABLE big AS SELECT g, md5(g::text) || md5((g * 7)::text) AS a FROM generate_series(1, 300000) g",
    "big",
  );
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

/** The progress of a backup of `big`, and what it stored. */
async function backup(): Promise<{ totals: (number | undefined)[]; storedBytes: number }> {
  const ran = await pgkit.run(["backup", "logical", "big", "--json", "--progress", "json"]);
  expect(ran.status).toBe(0);
  const events = ran.stderr.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
  return {
    totals: events.filter((event) => event.type === "progress").map((event) => event.totalBytes),
    storedBytes: JSON.parse(ran.stdout).backups[0].storedBytes,
  };
}

test("the second backup of a big database says how much there is to come, from the first", async () => {
  const first = await backup();
  expect(new Set(first.totals)).toEqual(new Set([undefined]));
  const second = await backup();
  const [last] = second.totals.slice(-1);
  expect(last).toBeGreaterThan(second.storedBytes * 0.9);
  expect(last).toBeLessThan(second.storedBytes * 1.1);
});
