import { afterAll, beforeAll, expect, test } from "vitest";
import { makePermanent } from "../../src/move/block.ts";
import { blockWritesStep } from "../../src/move/steps/block-writes.ts";
import { unblockStep } from "../../src/move/steps/unblock.ts";
import { onlineSteps, runBefore, undoAll } from "./online.ts";
import {
  applicationUrl,
  type MoveClusters,
  makeApplication,
  makeEmptyTarget,
  startMoveClusters,
  testMove,
} from "./support.ts";
import { startWriter } from "./writer.ts";

let clusters: MoveClusters;
beforeAll(async () => {
  clusters = await startMoveClusters();
});
afterAll(async () => {
  await clusters[Symbol.asyncDispose]();
});

test("an application that writes all the time loses nothing by a move, nor by its rollback", async () => {
  await Promise.all([makeApplication(clusters.source), makeEmptyTarget(clusters.target)]);
  const move = await testMove(clusters, { pooled: true });
  let at = clusters.source;
  const writer = startWriter({ url: () => applicationUrl(at, "litellm") });
  await writer.more(30);
  await runBefore(move, blockWritesStep);
  await writer.more(30);
  writer.resetGap();
  const times: Record<string, number> = {};
  for (const step of onlineSteps.slice(2)) {
    const started = performance.now();
    if (step.name === unblockStep.name) {
      await makePermanent(move.context);
      at = clusters.target;
    }
    await move.run(step);
    times[step.name] = Math.round(performance.now() - started);
  }
  await writer.more(30);
  console.error(times, writer.longestGapMs(), writer.errors.length);
  writer.resetGap();
  const started = performance.now();
  await move.undo(unblockStep);
  at = clusters.source;
  console.error(performance.now() - started);
  await undoAll(move);
  await writer.more(30);
  console.error(performance.now() - started, writer.longestGapMs());
  await writer.stop();
  const rows = await clusters.source.psql("SELECT n FROM ledger ORDER BY n", "litellm");
  const there = rows.split("\n").map(Number);
  expect(there.filter((n) => writer.acknowledged.includes(n))).toEqual(writer.acknowledged);
  await move.close();
});
