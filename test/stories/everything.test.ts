import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Programs } from "../../src/postgres/programs.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Description, describeDatabase, describeRoles } from "../support/describe.ts";
import { makeEverything, programsForEverything } from "../support/everything.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

const database = 'we"ird-Ä';
let programs: Programs & AsyncDisposable;
let cluster: Cluster;
/** Servers with nothing on them, one for each way to back up. */
const others: Record<string, Cluster> = {};
let pgkit: Pgkit;
let before: Description;
const ids: Record<string, string> = {};

beforeAll(async () => {
  programs = await programsForEverything();
  const clusters = await Promise.all([1, 2, 3].map(() => startCluster({ programs })));
  [cluster, others.whole, others.parts] = clusters as [Cluster, Cluster, Cluster];
  pgkit = await pgkitFor({
    whole: { cluster },
    parts: { cluster, settings: ["wholeBelow: 1KiB", "jobs: 2"] },
    "of-whole": { cluster: others.whole },
    "of-parts": { cluster: others.parts, settings: ["jobs: 3"] },
  });
  await makeEverything(cluster, database);
  for (const instance of ["whole", "parts"]) ids[instance] = await pgkit.backup(database, instance);
  before = await describeDatabase(cluster, database);
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await Promise.all([cluster, ...Object.values(others)].map((each) => each?.[Symbol.asyncDispose]()));
  await programs?.[Symbol.asyncDispose]();
});

describe.each(["whole", "parts"])("a database with every kind of object, backed up as %s", (instance) => {
  it("is the same when restored beside itself, its materialized views filled anew", async () => {
    const backup = ids[instance] ?? "";
    await pgkit.json(["restore", database, "--instance", instance, "--backup", backup, "--as", `copy of ${instance}`]);
    expectSame(await describeDatabase(cluster, `copy of ${instance}`), before);
  });

  it("is the same on a server that has none of its roles, each of which comes with its password", async () => {
    const other = others[instance] as Cluster;
    const backup = ids[instance] ?? "";
    const restored = await pgkit.json(["restore", database, "--to-instance", `of-${instance}`, "--backup", backup]);
    expect(restored.notRestored).toEqual([]);
    expectSame(await describeDatabase(other, database), before);
    const [wanted, found] = await Promise.all([describeRoles(cluster), describeRoles(other)]);
    expect(found).toEqual(wanted.filter((each) => !JSON.stringify(each).includes('"nobody_here"')));
  });
});

function expectSame(found: Description, wanted: Description): void {
  // What was stale is not: a materialized view is filled from the restored tables.
  const refreshed = { "app.daily": expect.any(String), "app.of_daily": "(901)" };
  expect(found.schema.filter((each) => !wanted.schema.includes(each))).toEqual([]);
  expect(found.schema).toEqual(wanted.schema);
  expect(found.rows).toEqual({ ...wanted.rows, ...refreshed });
  expect(found.sequences).toEqual(wanted.sequences);
  expect(found.largeObjects).toEqual(wanted.largeObjects);
  expect(found.extensions).toEqual(wanted.extensions);
  expect(found.database).toEqual(wanted.database);
  expect(found.analyzed).toEqual(
    expect.arrayContaining(["app.kinds", "app.events_2026", "odd, schema.$dollar'quote\\"]),
  );
}
