import { expect, test } from "vitest";
import { budget } from "../../src/lib/budget.ts";
import { fanOut } from "../../src/lib/fan-out.ts";
import { type Bytes, collect } from "../../src/lib/streams.ts";

async function* source(count: number, failAt = -1): AsyncGenerator<Uint8Array> {
  for (let index = 0; index < count; index++) {
    if (index === failAt) throw new Error("the dump died");
    yield Buffer.alloc(50_000, index);
  }
}

const all = (branch: Bytes) => collect(branch);

async function failAfter(branch: Bytes, pieces: number): Promise<Buffer> {
  let taken = 0;
  for await (const _ of branch) if (++taken === pieces) throw new Error("the store is full");
  return Buffer.alloc(0);
}

test("every consumer gets every byte", async () => {
  const wanted = await collect(source(40));
  const outcomes = await fanOut(source(40), [all, all, all]);
  for (const outcome of outcomes) {
    expect(outcome.status === "fulfilled" && outcome.value.equals(wanted)).toBe(true);
  }
});

test("a consumer that fails drops out, and the others get everything", async () => {
  const wanted = await collect(source(40));
  const [failed, whole] = await fanOut(source(40), [(branch) => failAfter(branch, 3), all]);
  expect(failed).toMatchObject({ status: "rejected", reason: { message: "the store is full" } });
  expect(whole?.status === "fulfilled" && whole.value.equals(wanted)).toBe(true);
});

test.each([1, 2])("a source that dies is no end for any of %i consumers", async (consumers) => {
  const outcomes = await fanOut(source(40, 20), Array<typeof all>(consumers).fill(all));
  expect(outcomes).toHaveLength(consumers);
  for (const outcome of outcomes) {
    expect(outcome).toMatchObject({ status: "rejected", reason: { message: "the dump died" } });
  }
});

test("a source is stopped when nobody reads any more", async () => {
  let stopped = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield Buffer.alloc(50_000);
    } finally {
      stopped = true;
    }
  }
  await fanOut(endless(), [(branch) => failAfter(branch, 2), (branch) => failAfter(branch, 5)]);
  expect(stopped).toBe(true);
});

test("a budget is never overspent, and what asks for more than all of it gets all of it", async () => {
  const connections = budget(4);
  let held = 0;
  let most = 0;
  const spend = (amount: number) =>
    connections.spend(amount, async () => {
      held += Math.min(amount, 4);
      most = Math.max(most, held);
      await new Promise((resolve) => setImmediate(resolve));
      held -= Math.min(amount, 4);
    });
  await Promise.all([2, 3, 1, 1, 9, 4, 2, 2, 1].map(spend));
  expect(most).toBe(4);
  expect(held).toBe(0);
});
