import { expect, test } from "vitest";
import { makePermanent } from "../../src/move/block.ts";
import { blockWritesStep } from "../../src/move/steps/block-writes.ts";
import { unblockStep } from "../../src/move/steps/unblock.ts";
import { clustersOfFile } from "./clusters.ts";
import { onlineSteps, runBefore, undoAll } from "./online.ts";
import { applicationUrl, makeApplication, makeEmptyTarget, testMove } from "./support.ts";
import { startWriter } from "./writer.ts";

const clusters = clustersOfFile();

test("an application that writes all the time loses nothing by a move, nor by its rollback", async () => {
  await Promise.all([makeApplication(clusters.source), makeEmptyTarget(clusters.target)]);
  const move = await testMove(clusters, { pooled: true });
  let at = clusters.source;
  const writer = startWriter({ url: () => applicationUrl(at, "litellm") });
  await writer.more(30);
  await runBefore(move, blockWritesStep);
  await writer.more(30);
  for (const step of onlineSteps.slice(onlineSteps.findIndex(({ name }) => name === blockWritesStep.name))) {
    if (step.name === unblockStep.name) {
      await makePermanent(move.context);
      at = clusters.target;
    }
    await move.run(step);
  }
  await writer.more(30);
  const moved = [...writer.acknowledged];
  await move.undo(unblockStep);
  at = clusters.source;
  await undoAll(move);
  await writer.more(30);
  await writer.stop();
  await move.close();
  const rows = (await clusters.source.psql("SELECT n FROM ledger ORDER BY id", "litellm")).split("\n").map(Number);
  const known = new Set(writer.acknowledged);
  // What was not acknowledged may be there; what was is there once, in order, from before the move to after its rollback.
  expect(rows.filter((n) => known.has(n))).toEqual(writer.acknowledged);
  expect(new Set(rows).size).toBe(rows.length);
  expect(writer.acknowledged.length).toBeGreaterThanOrEqual(moved.length + 30);
});
