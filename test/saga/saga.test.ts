import { describe, expect, test } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { systemClock } from "../../src/lib/time.ts";
import { endBlock, goBack, goForward, isBlocked, type Saga, type SagaStep } from "../../src/saga/saga.ts";

/** What a move changes: where the application may write, where it is pointed, and what else has been made. */
interface World {
  sourceOpen: boolean;
  targetOpen: boolean;
  pointsAt: "source" | "target";
  made: Set<string>;
}

const newWorld = (): World => ({ sourceOpen: true, targetOpen: false, pointsAt: "source", made: new Set() });
const canWrite = (world: World) => (world.pointsAt === "source" ? world.sourceOpen : world.targetOpen);

/** Every change of the world and every record goes through it, so that a run can be ended before or after each. */
type Effect = (name: string, change: () => void) => Promise<void>;

const making = (name: string): SagaStep<{ effect: Effect; world: World }> => ({
  name,
  does: name,
  check: async ({ world }) => (world.made.has(name) ? "done" : "todo"),
  run: ({ effect, world }) => effect(name, () => void world.made.add(name)),
  verify: async ({ world }) => expect(world.made).toContain(name),
  undo: ({ effect, world }) => effect(`undo ${name}`, () => void world.made.delete(name)),
});

type Key = "sourceOpen" | "targetOpen" | "pointsAt";
const setting = <K extends Key>(name: string, key: K, from: World[K], to: World[K]): SagaStep<Context> => ({
  name,
  does: name,
  check: async ({ world }) => (world[key] === to ? "done" : "todo"),
  run: ({ effect, world }) => effect(name, () => void Object.assign(world, { [key]: to })),
  verify: async ({ world }) => expect(world[key]).toBe(to),
  undo: ({ effect, world }) => effect(`undo ${name}`, () => void Object.assign(world, { [key]: from })),
});

interface Context {
  effect: Effect;
  world: World;
}

const steps: SagaStep<Context>[] = [
  making("copy"),
  { ...setting("block", "sourceOpen", true, false), blocks: true },
  making("drain"),
  making("feed back"),
  setting("switch", "pointsAt", "source", "target"),
  setting("open", "targetOpen", false, true),
  making("watch"),
];

interface Records {
  steps: Map<string, { plan: unknown; result: unknown; isDone: boolean; at: string }>;
}

function sagaOn(world: World, records: Records, effect: Effect, more: Partial<Saga<Context>> = {}): Saga<Context> {
  // What this process knows; `records` is what it leaves behind.
  const known: Records = { steps: new Map(records.steps) };
  let waiting: NewRecord[] = [];
  return {
    steps,
    journal: {
      steps: known.steps,
      later: (record) => {
        waiting.push(record);
        apply(known, record);
      },
      append: (record) =>
        effect(`record ${record.type}`, () => {
          for (const each of [...waiting, record]) apply(records, each);
          waiting = [];
          apply(known, record);
        }),
    },
    contextFor: () => ({ effect, world }),
    opens: "open",
    decides: "switch",
    plansAhead: true,
    maxBlockMs: undefined,
    clock: systemClock,
    startGuard: () => () => undefined,
    report: () => undefined,
    signal: new AbortController().signal,
    ...more,
  };
}

type NewRecord = Parameters<Saga<Context>["journal"]["append"]>[0];

function apply({ steps }: Records, record: NewRecord): void {
  if (record.type === "plan") steps.set(record.step, { plan: record.plan, result: undefined, isDone: false, at: "" });
  if (record.type === "result") {
    const plan = steps.get(record.step)?.plan;
    steps.set(record.step, { plan, result: record.result, isDone: true, at: "" });
  }
  if (record.type === "undone") steps.delete(record.step);
}

const lasting: Effect = async (_, change) => change();

/** Ends at the nth effect, before it or after; nothing more happens then, as after SIGKILL. */
function killedAt(nth: number, when: "before" | "after"): { effect: Effect; isDead: () => boolean } {
  let count = 0;
  const effect: Effect = async (_, change) => {
    count++;
    if (count > nth || (count === nth && when === "before")) throw new Error("killed");
    change();
    if (count === nth) throw new Error("killed");
  };
  return { effect, isDead: () => count >= nth };
}

/** Fails once, at the nth effect. */
function failingAt(nth: number): { effect: Effect; hasFailed: () => boolean } {
  let count = 0;
  const effect: Effect = async (name, change) => {
    if (++count === nth) throw new PgkitError("postgres-unreachable", `no answer at ${name}`);
    change();
  };
  return { effect, hasFailed: () => count >= nth };
}

async function effectsOf(run: (effect: Effect) => Promise<void>): Promise<number> {
  let count = 0;
  await run(async (_, change) => {
    count++;
    change();
  });
  return count;
}

const moved = {
  sourceOpen: false,
  targetOpen: true,
  pointsAt: "target",
  made: new Set(["copy", "drain", "feed back", "watch"]),
};

describe("a saga", () => {
  test.each([true, false])(
    "killed anywhere is resumed to its end, and rolled back to its beginning; planned ahead: %s",
    async (plansAhead) => {
      const saga = (world: World, records: Records, effect: Effect) => sagaOn(world, records, effect, { plansAhead });
      const all = await effectsOf((effect) => goForward(saga(newWorld(), { steps: new Map() }, effect)));
      expect(all).toBeGreaterThan(14);
      for (let nth = 1; nth <= all; nth++) {
        for (const when of ["before", "after"] as const) {
          for (const then of [goForward, goBack]) {
            const world = newWorld();
            const records: Records = { steps: new Map() };
            const { effect, isDead } = killedAt(nth, when);
            await goForward(saga(world, records, effect)).catch(() => undefined);
            expect(isDead()).toBe(true);
            await then(saga(world, records, lasting));
            expect(world, `killed ${when} effect ${nth}, then ${then.name}`).toEqual(
              then === goForward ? moved : newWorld(),
            );
          }
        }
      }
    },
  );

  test("killed anywhere on its way back goes on back", async () => {
    const all = await effectsOf(async (effect) => {
      const [world, records] = [newWorld(), { steps: new Map() }];
      await goForward(sagaOn(world, records, lasting));
      await goBack(sagaOn(world, records, effect));
    });
    for (let nth = 1; nth <= all; nth++) {
      for (const when of ["before", "after"] as const) {
        const [world, records] = [newWorld(), { steps: new Map() }];
        await goForward(sagaOn(world, records, lasting));
        await goBack(sagaOn(world, records, killedAt(nth, when).effect)).catch(() => undefined);
        await goBack(sagaOn(world, records, lasting));
        expect(world, `killed ${when} effect ${nth}`).toEqual(newWorld());
      }
    }
  });

  test("killed anywhere, there or back, is let in again where it is pointed at", async () => {
    const there = await effectsOf((effect) => goForward(sagaOn(newWorld(), { steps: new Map() }, effect)));
    for (let nth = 1; nth <= there; nth++) {
      for (const when of ["before", "after"] as const) {
        const [world, records] = [newWorld(), { steps: new Map() }];
        await goForward(sagaOn(world, records, killedAt(nth, when).effect)).catch(() => undefined);
        await endBlock(sagaOn(world, records, lasting));
        expect(canWrite(world), `killed ${when} effect ${nth}`).toBe(true);
        await goForward(sagaOn(world, records, lasting));
        expect(world).toEqual(moved);
        await goBack(sagaOn(world, records, killedAt(nth, when).effect)).catch(() => undefined);
        await endBlock(sagaOn(world, records, lasting));
        expect(canWrite(world), `killed ${when} effect ${nth} of the way back`).toBe(true);
        expect(world.sourceOpen && world.targetOpen).toBe(false);
        await goBack(sagaOn(world, records, lasting));
        expect(world).toEqual(newWorld());
      }
    }
  });

  test("that fails anywhere leaves the application where it can write, on its way there and back", async () => {
    const all = await effectsOf((effect) => goForward(sagaOn(newWorld(), { steps: new Map() }, effect)));
    for (let nth = 1; nth <= all; nth++) {
      const [world, records] = [newWorld(), { steps: new Map() }];
      const { effect, hasFailed } = failingAt(nth);
      await expect(goForward(sagaOn(world, records, effect))).rejects.toThrow("no answer");
      expect(hasFailed()).toBe(true);
      expect(canWrite(world), `after a failure at effect ${nth}`).toBe(true);
      expect(world.sourceOpen && world.targetOpen, `both open after effect ${nth}`).toBe(false);
      await goForward(sagaOn(world, records, lasting));
      expect(world).toEqual(moved);
      await expect(goBack(sagaOn(world, records, failingAt(Math.ceil(nth / 2)).effect))).rejects.toThrow("no answer");
      expect(canWrite(world), `after a failure of the way back at effect ${nth}`).toBe(true);
      await goBack(sagaOn(world, records, lasting));
      expect(world).toEqual(newWorld());
    }
  });

  test("lifts a block that lasts too long, and tells so", async () => {
    const [world, records] = [newWorld(), { steps: new Map() }];
    let wasBlocked = false;
    const slow: SagaStep<Context> = {
      ...making("slow"),
      run: () =>
        new Promise((resolve) => {
          wasBlocked = !canWrite(world);
          setTimeout(resolve, 60);
        }),
      verify: async () => undefined,
      undo: async () => undefined,
    };
    const saga = sagaOn(world, records, lasting, { steps: steps.toSpliced(3, 0, slow), maxBlockMs: 20 });
    await expect(goForward(saga)).rejects.toMatchObject({ code: "move-stopped", exitStatus: 50 });
    expect([wasBlocked, world.sourceOpen, isBlocked(saga)]).toEqual([true, true, false]);
  });

  test("whose step cannot be undone opens the source all the same", async () => {
    const [world, records] = [newWorld(), { steps: new Map() }];
    const stuck = { ...making("stuck"), undo: () => Promise.reject(new Error("the target is down")) };
    const broken = { ...making("broken"), run: () => Promise.reject(new Error("broken")) };
    const saga = sagaOn(world, records, lasting, { steps: steps.toSpliced(3, 0, stuck, broken) });
    await expect(goForward(saga)).rejects.toThrow("broken");
    expect(world.sourceOpen).toBe(true);
    expect([...records.steps.keys()]).toContain("stuck");
  });

  test("lifts a block without undoing what it had only planned", async () => {
    const [world, records] = [newWorld(), { steps: new Map() }];
    const effects: string[] = [];
    const failing: Effect = async (name, change) => {
      effects.push(name);
      if (name === "drain") throw new PgkitError("postgres-unreachable", "no answer");
      change();
    };
    const saga = sagaOn(world, records, failing);
    await expect(goForward(saga)).rejects.toThrow("no answer");
    expect(effects.filter((name) => name.startsWith("undo"))).toEqual(["undo drain", "undo block"]);
    expect([[...records.steps.keys()], canWrite(world)]).toEqual([["copy"], true]);
  });

  test("that has lost its journal changes nothing more", async () => {
    const [world, records] = [newWorld(), { steps: new Map() }];
    const losing: Effect = async (name, change) => {
      if (name.startsWith("record") && world.made.has("drain")) throw new PgkitError("locked", "another goes on");
      change();
    };
    await expect(goForward(sagaOn(world, records, losing))).rejects.toMatchObject({ code: "locked" });
    expect(world.sourceOpen).toBe(false);
  });
});
