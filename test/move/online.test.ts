import { afterAll, beforeAll, beforeEach, describe, test } from "vitest";
import { applicationDatabases, onlineSteps, runBefore } from "./online.ts";
import { type MoveClusters, startMoveClusters, stepLifecycle, type TestMove, testMove } from "./support.ts";

let clusters: MoveClusters;
let newDatabase: () => Promise<string>;
beforeAll(async () => {
  clusters = await startMoveClusters();
  newDatabase = await applicationDatabases(clusters);
});
afterAll(async () => {
  await clusters[Symbol.asyncDispose]();
});

let move: TestMove;
beforeEach(async () => {
  const database = await newDatabase();
  move = await testMove(clusters, { database, pooled: true });
  return async () => {
    await move.close();
  };
});

describe("each step of an online move keeps what every step promises", () => {
  test.each(onlineSteps.map((step) => [step.name, step] as const))("%s", async (_, step) => {
    await runBefore(move, step);
    await stepLifecycle(move, step);
  });
});
