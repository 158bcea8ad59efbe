import { afterAll, beforeAll, expect, test } from "vitest";
import { compareStep } from "../../src/move/steps/compare.ts";
import { compareStructureStep } from "../../src/move/steps/compare-structure.ts";
import { programsForEverything } from "../support/everything.ts";
import { sameVerifiers } from "./alike.ts";
import { type MoveClusters, makeApplication, startMoveClusters, stepLifecycle, testMove } from "./support.ts";

let clusters: MoveClusters;
let programs: Awaited<ReturnType<typeof programsForEverything>>;

beforeAll(async () => {
  programs = await programsForEverything();
  clusters = await startMoveClusters({ source: { programs }, target: { programs } });
}, 300_000);

afterAll(async () => {
  await clusters[Symbol.asyncDispose]();
  await programs[Symbol.asyncDispose]();
});

/** Both sides alike, made by the same statements. */
async function alike(database: string): Promise<void> {
  await Promise.all([makeApplication(clusters.source, database), makeApplication(clusters.target, database)]);
  // What is random or of the moment.
  const ids = "UPDATE audit.entries SET id = md5(team::text || cost::text || raw::text)::uuid";
  await Promise.all([clusters.source.psql(ids, database), clusters.target.psql(ids, database)]);
  await sameVerifiers(clusters);
}

test("a step's promises hold, and two databases that are alike are proven", async () => {
  await alike("alike");
  const move = await testMove(clusters, { database: "alike" });
  await move.run(compareStructureStep);
  await stepLifecycle(move, compareStep);
  const proof = await move.run(compareStep);
  expect(proof).toMatchObject({ state: "proven", sequences: 2, differences: [] });
  expect(proof.tables.map(({ name, rows, extent }) => ({ name, rows, extent }))).toContainEqual({
    ...{ name: "audit.entries", rows: 500, extent: "whole" },
  });
});
