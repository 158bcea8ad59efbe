import { beforeEach, describe, test } from "vitest";
import { clustersOfFile, newDatabaseOn } from "./clusters.ts";
import { onlineSteps, runBefore } from "./online.ts";
import { stepLifecycle, type TestMove, testMove } from "./support.ts";

const clusters = clustersOfFile();
const newDatabase = newDatabaseOn(clusters);

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
