import { afterAll, beforeAll, expect, test } from "vitest";
import { assess } from "../../src/move/preflight.ts";
import type { Step } from "../../src/move/step.ts";
import { stepsOf } from "../../src/move/steps.ts";
import type { Programs } from "../../src/postgres/programs.ts";
import { expectEveryRow } from "../stories/move-support.ts";
import { newerPrograms } from "../support/root-programs.ts";
import { applicationUrl, type MoveClusters, makeApplication, startMoveClusters, testMove } from "./support.ts";
import { startWriter } from "./writer.ts";

let clusters: MoveClusters;
let programs: Programs & AsyncDisposable;
beforeAll(async () => {
  programs = await newerPrograms();
  clusters = await startMoveClusters({ target: { programs } });
  await makeApplication(clusters.source);
});
afterAll(async () => {
  await clusters?.[Symbol.asyncDispose]();
  await programs?.[Symbol.asyncDispose]();
});

test.each(["online", "offline"] as const)(
  "a move to a newer major, %s, and back with what was written there",
  async (mode) => {
    const { source, target } = clusters;
    expect(target.major).toBeGreaterThan(source.major);
    const move = await testMove(clusters, { mode, pooled: true });
    const { risks } = await assess(move.context);
    expect(risks.filter(({ level }) => level === "refusal")).toEqual([]);
    const steps = stepsOf(move.context.move).filter(
      ({ name }) => !["preflight", "back-up", "watch"].includes(name),
    ) as Step[];
    for (const step of steps) await move.run(step);
    const writer = startWriter({ url: () => applicationUrl(target, "litellm"), name: mode });
    await writer.more(5);
    for (const step of steps.toReversed()) await move.undo(step);
    await writer.stop();
    await move.close();
    await expectEveryRow(source, writer);
  },
);

test("a move to an older major is refused", async () => {
  const { context } = await testMove(clusters, { back: true });
  await clusters.target.psql("CREATE DATABASE litellm");
  expect((await assess(context)).risks).toContainEqual(
    expect.objectContaining({
      level: "refusal",
      message: expect.stringMatching(/^dedicated has PostgreSQL 15, older/),
    }),
  );
});
