import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildIndexesStep } from "../../src/move/steps/build-indexes.ts";
import { copyDataStep } from "../../src/move/steps/copy-data.ts";
import { copyRolesStep } from "../../src/move/steps/copy-roles.ts";
import { copySchemaStep } from "../../src/move/steps/copy-schema.ts";
import { createDatabaseStep } from "../../src/move/steps/create-database.ts";
import type { Programs } from "../../src/postgres/programs.ts";
import { describeDatabase, describeRoles } from "../support/describe.ts";
import { makeEverything, programsForEverything } from "../support/everything.ts";
import { type MoveClusters, startMoveClusters, type TestMove, testMove } from "./support.ts";

const database = 'we"ird-Ä';
let programs: Programs & AsyncDisposable;
let clusters: MoveClusters;

beforeAll(async () => {
  programs = await programsForEverything();
  clusters = await startMoveClusters({ source: { programs }, target: { programs } });
  await makeEverything(clusters.source, database);
});
afterAll(async () => {
  await clusters?.[Symbol.asyncDispose]();
  await programs?.[Symbol.asyncDispose]();
});

const steps = [copyRolesStep, createDatabaseStep, copySchemaStep, copyDataStep, buildIndexesStep] as const;

async function copyAll(move: TestMove): Promise<void> {
  await move.run(copyRolesStep);
  await move.run(createDatabaseStep);
  await move.run(copySchemaStep);
  if (move.context.move.mode === "offline") await move.run(copyDataStep);
  await move.run(buildIndexesStep);
}

describe("an offline copy of a database with every kind of object", () => {
  it("is the same on the target, with its roles and passwords, closed until the switch", async () => {
    const { source, target } = clusters;
    const move = await testMove(clusters, { database, mode: "offline" });
    await copyAll(move);
    const [wanted, found] = [await describeDatabase(source, database), await describeDatabase(target, database)];
    expect(found.schema.filter((each) => !wanted.schema.includes(each))).toEqual([]);
    const missing = wanted.schema.filter((each) => !found.schema.includes(each));
    expect(missing.filter((each) => !/SUBSCRIPTION/.test(each))).toEqual([]);
    const refreshed = { "app.daily": expect.any(String), "app.of_daily": "(901)" };
    expect(found.rows).toEqual({ ...wanted.rows, ...refreshed });
    expect(found.largeObjects).toEqual(wanted.largeObjects);
    expect(found.extensions).toEqual(wanted.extensions);
    const [own] = wanted.database as [object];
    const closed = { datconnlimit: 0, comment: `pgkit move ${move.context.move.id}: indexes built` };
    expect(found.database).toEqual([{ ...own, ...closed }]);
    expect(found.analyzed).toEqual(expect.arrayContaining(["app.kinds", "app.events_2026"]));
    const [rolesWanted, rolesFound] = await Promise.all([describeRoles(source), describeRoles(target)]);
    expect(rolesFound).toEqual(rolesWanted.filter((each) => !JSON.stringify(each).includes('"nobody_here"')));
    expect(move.warnings().join()).toContain("subscription far_away");
    for (const step of [...steps].toReversed()) await move.undo(step as never);
    expect(await target.psql("SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template[01])$'")).toBe("");
    expect(await describeRoles(target)).toEqual([]);
  });
});
