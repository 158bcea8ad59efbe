import { afterAll, beforeAll, beforeEach, describe, test } from "vitest";
import { onlineSteps, runBefore } from "./online.ts";
import {
  type MoveClusters,
  makeApplication,
  makeEmptyTarget,
  startMoveClusters,
  stepLifecycle,
  type TestMove,
  testMove,
} from "./support.ts";

let clusters: MoveClusters;
beforeAll(async () => {
  clusters = await startMoveClusters();
});
afterAll(async () => {
  await clusters[Symbol.asyncDispose]();
});

let move: TestMove;
let databases = 0;
beforeEach(async () => {
  databases += 1;
  const database = `App "${databases}"`;
  await Promise.all([makeApplication(clusters.source, database), makeEmptyTarget(clusters.target, database)]);
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
