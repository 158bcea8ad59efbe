import { describe, expect, test } from "vitest";
import { beginJournal, findMove, type Journal, takeUpJournal } from "../../src/move/journal.ts";
import type { MoveFacts } from "../../src/move/step.ts";
import { kindsOfStore, quietRepository, repositoryIn } from "../repo/support.ts";

const facts: MoveFacts = {
  id: "20261129T180000Z-3f9a",
  application: "litellm",
  database: "litellm",
  mode: "online",
  source: { instance: "shared", systemId: "1", major: 15 },
  target: { instance: "own", systemId: "2", major: 17 },
  options: { maxBlockMs: 1, jobs: 2, reverseFeed: true, backupMaxAgeMs: 1, rollbackWindowMs: 1 },
};
const runner = (pid: number) => ({ who: "me", host: "here", pid });

describe("the journal of a move", () => {
  test("tells the next run all that the last one wrote", async () => {
    const { clock, repository } = await quietRepository();
    const journal = await beginJournal(repository, facts, runner(1), { clock });
    await journal.append({ type: "plan", step: "block-writes", plan: { connectionLimit: 7 } });
    await journal.append({ type: "plan", step: "switch" });
    await journal.append({ type: "result", step: "block-writes", result: { lsn: "0/1" } });
    await journal.append({ type: "blocked", writeBlockedMs: 120 });
    await journal.append({ type: "state", state: "stopped", message: "no answer" });
    await journal.append({ type: "undone", step: "switch" });
    const found = await findMove(repository, { database: "litellm" });
    expect(found?.journal).toMatchObject({ facts, state: "stopped", message: "no answer", writeBlockedMs: 120 });
    expect([...(found?.journal.steps ?? [])]).toMatchObject([
      ["block-writes", { plan: { connectionLimit: 7 }, result: { lsn: "0/1" }, isDone: true }],
    ]);
    expect(journal.steps).toEqual(found?.journal.steps);
  });

  test("writes what can wait together with the next record, and has it at once", async () => {
    const { clock, repository } = await quietRepository();
    const journal = await beginJournal(repository, facts, runner(1), { clock });
    journal.later({ type: "plan", step: "block-writes", plan: { connectionLimit: 7 } });
    const stepsOf = async () => [
      ...((await findMove(repository, { database: "litellm" }))?.journal.steps.keys() ?? []),
    ];
    expect([[...journal.steps.keys()], await stepsOf()]).toEqual([["block-writes"], []]);
    await journal.append({ type: "plan", step: "drain" });
    expect(await stepsOf()).toEqual(["block-writes", "drain"]);
    const found = await findMove(repository, { database: "litellm" });
    if (found === undefined) throw new Error("no move was found");
    await takeUpJournal(repository, found, "resume", runner(2), { clock });
    await expect(journal.append({ type: "plan", step: "switch" })).rejects.toMatchObject({ code: "locked" });
    expect(await stepsOf()).toEqual(["block-writes", "drain"]);
  });

  test.each(kindsOfStore)(
    "has one writer on a $kind store: whoever takes it up ends the one before",
    async ({ make }) => {
      const { clock } = await quietRepository();
      const repository = await repositoryIn(await make());
      const first = await beginJournal(repository, facts, runner(1), { clock });
      const found = await findMove(repository, { database: "litellm" });
      if (found === undefined) throw new Error("no move was found");
      const outcomes = await Promise.allSettled(
        [2, 3].map((pid) => takeUpJournal(repository, found, "resume", runner(pid), { clock })),
      );
      const winners = outcomes.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
      const losers = outcomes.flatMap((each) => (each.status === "rejected" ? [each.reason] : []));
      expect([winners.length, losers.map(({ code }) => code)]).toEqual([1, ["locked"]]);
      await expect(first.append({ type: "plan", step: "switch" })).rejects.toMatchObject({
        code: "locked",
        exitStatus: 11,
      });
      const [winner] = winners as [Journal];
      await winner.append({ type: "plan", step: "switch" });
      expect([...((await findMove(repository, { database: "litellm" }))?.journal.steps.keys() ?? [])]).toEqual([
        "switch",
      ]);
    },
  );

  test("of two databases whose names look alike in a key is that of the one asked for, and the newest", async () => {
    const { clock, repository } = await quietRepository();
    for (const [database, id] of [
      ["a b", "20261129T180000Z-0001"],
      ["a_b", "20261129T190000Z-0002"],
      ["a b", "20261129T185959Z-0003"],
    ] as const) {
      await beginJournal(repository, { ...facts, database, id }, runner(1), { clock });
    }
    expect((await findMove(repository, { database: "a b" }))?.journal.facts.id).toBe("20261129T185959Z-0003");
    expect((await findMove(repository, { database: "a_b", instance: "shared" }))?.journal.facts.id).toBe(
      "20261129T190000Z-0002",
    );
    expect(await findMove(repository, { database: "a_b", instance: "other" })).toBeUndefined();
    expect(await findMove(repository, { database: "c" })).toBeUndefined();
  });

  test("that was changed is not believed", async () => {
    const { clock, repository, store } = await quietRepository();
    const journal = await beginJournal(repository, facts, runner(1), { clock });
    await store.put(`${journal.folder}000002.json`, Buffer.from("{}"));
    await expect(findMove(repository, { database: "litellm" })).rejects.toMatchObject({ code: "manifest-corrupt" });
    await store.delete([`${journal.folder}000001.json`, `${journal.folder}000002.json`]);
    await journal.append({ type: "plan", step: "switch" });
    await expect(findMove(repository, { database: "litellm" })).rejects.toMatchObject({ code: "manifest-corrupt" });
  });
});
