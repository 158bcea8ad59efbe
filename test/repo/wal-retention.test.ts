import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nameOf, planPrune } from "../../src/repo/retention.ts";
import { planWal, type WalPlan, type WalRetentionInput, windowAnchors } from "../../src/repo/wal-retention.ts";
import { at, type BaseSketch, baseOf, nameAt, range, segmentBytes, timeAt, walOf } from "./wal-support.ts";

const now = timeAt(1000);
const nothing = { unreadable: [], busy: new Set<string>(), now };

function plan(
  sketch: Parameters<typeof walOf>[0],
  backups: (BaseSketch & { kept?: false | "pin" })[],
  more = {},
): WalPlan {
  const manifests = backups.map(baseOf);
  const keep = backups.flatMap(({ kept }, nth) => {
    const backup = manifests[nth];
    return kept === false || backup === undefined ? [] : [{ backup, pinOnly: kept === "pin" }];
  });
  const input: WalRetentionInput = { ...nothing, wal: [walOf(sketch)], backups: manifests, keep, ...more };
  const [found] = planWal(input);
  if (found === undefined) throw new Error("no plan");
  return found;
}

const removedIn = ({ remove }: WalPlan) => remove.map(({ name }) => name);

describe("which WAL is removed", () => {
  it("all before the segment in which the oldest kept base backup starts, which stays", () => {
    const backups = [
      { id: "a", start: 3, kept: false as const },
      { id: "b", start: 7 },
      { id: "c", start: 9 },
    ];
    expect(removedIn(plan({ segments: { 1: range(1, 12) } }, backups))).toEqual(range(1, 6).map((n) => nameAt(1, n)));
  });

  it("of a backup that only a pin keeps, its own segments stay, and those between it and the others go", () => {
    const backups = [
      { id: "a", start: 2, stop: 3, kept: "pin" as const },
      { id: "b", start: 7 },
    ];
    const gone = removedIn(plan({ segments: { 1: range(1, 9) } }, backups));
    expect(gone).toEqual([1, 4, 5, 6].map((n) => nameAt(1, n)));
  });

  it("none of a server that has no base backup, that has one under way, or of whose manifests one cannot be read", () => {
    const sketch = { segments: { 1: range(1, 9) } };
    const one = [{ id: "b", start: 7 }];
    expect(plan(sketch, [])).toMatchObject({ remove: [], reasons: ["there is no base backup of this server yet"] });
    expect(plan(sketch, one, { busy: new Set(["shared"]) })).toMatchObject({ remove: [] });
    expect(plan(sketch, one, { unreadable: [{ instance: "shared", id: "x" }] })).toMatchObject({ remove: [] });
    expect(plan(sketch, one, { busy: new Set(["other"]) }).remove).not.toEqual([]);
  });

  it("servers are decided by themselves, whatever the names of their segments: after pg_upgrade these begin again", () => {
    const old = walOf({ systemId: "1", segments: { 1: range(500, 520) } });
    const young = walOf({ systemId: "2", segments: { 1: range(1, 9) } });
    const before = baseOf({ id: "old", systemId: "1", start: 510 });
    const after = baseOf({ id: "new", systemId: "2", start: 5 });
    const [ofOld, ofYoung] = planWal({
      ...nothing,
      wal: [old, young],
      backups: [before, after],
      keep: [before, after].map((backup) => ({ backup, pinOnly: false })),
    });
    expect(ofOld && removedIn(ofOld)).toEqual(range(500, 509).map((n) => nameAt(1, n)));
    expect(ofYoung && removedIn(ofYoung)).toEqual(range(1, 4).map((n) => nameAt(1, n)));
    // A server that is only archived so far keeps all, and takes nothing from the old one.
    const [alone, fresh] = planWal({
      ...nothing,
      wal: [old, young],
      backups: [before],
      keep: [{ backup: before, pinOnly: false }],
    });
    expect(alone?.remove).toHaveLength(10);
    expect(fresh?.remove).toEqual([]);
  });

  it("a timeline that comes from a kept backup stays whole; one that left before it goes, but for its history", () => {
    const sketch = {
      segments: { 1: range(1, 20), 2: range(5, 8), 3: range(12, 15) },
      histories: { 2: [{ timeline: 1, endLsn: at(5, 100) }], 3: [{ timeline: 1, endLsn: at(12, 100) }] },
    };
    const gone = removedIn(plan(sketch, [{ id: "a", start: 10 }]));
    expect(gone).toEqual([...range(1, 9).map((n) => nameAt(1, n)), ...range(5, 8).map((n) => nameAt(2, n))]);
  });

  it("a timeline whose history is not stored, or cannot be read here, stays", () => {
    const gone = removedIn(plan({ segments: { 1: range(1, 12), 2: range(5, 8) } }, [{ id: "a", start: 10 }]));
    expect(gone).toEqual(range(1, 9).map((n) => nameAt(1, n)));
  });

  it("the record of a gap stays while a kept backup's window spans it", () => {
    const gaps = [
      { timeline: 1, from: 2, to: 4, reason: "early" },
      { timeline: 1, from: 10, to: 12, reason: "late" },
    ];
    const { removeGaps } = plan({ segments: { 1: [1, ...range(4, 9), ...range(12, 15)] }, gaps }, [
      { id: "a", start: 6 },
    ]);
    expect(removeGaps.map(({ reason }) => reason)).toEqual(["early"]);
  });

  it("a partial segment goes once the whole one is stored, and stays as the end of what is", () => {
    const one = [{ id: "a", start: 3 }];
    expect(removedIn(plan({ segments: { 1: range(3, 9) }, partials: { 1: 7 } }, one))).toEqual([
      `${nameAt(1, 7)}.partial`,
    ]);
    expect(removedIn(plan({ segments: { 1: range(3, 9) }, partials: { 1: 10 } }, one))).toEqual([]);
  });

  it("what the store still locks stays", () => {
    const sketch = { segments: { 1: range(1, 9) } };
    const locked = plan(sketch, [{ id: "a", start: 7 }], { retainMs: now.getTime() - timeAt(4).getTime() });
    expect(removedIn(locked)).toEqual([1, 2, 3].map((n) => nameAt(1, n)));
    expect(locked.reasons).toEqual(["3 files are under object lock"]);
  });
});

describe("the beginning of a window", () => {
  const policies = (windowHours: number) =>
    new Map([["shared", { logical: {}, base: { windowMs: windowHours * 3_600_000 } }]]);
  const kept = (backups: ReturnType<typeof baseOf>[], windowHours: number) =>
    planPrune({
      ...{ now: timeAt(100), timeZone: "UTC", backups, unreadable: [], keeps: [], leftovers: [] },
      policies: policies(windowHours),
    }).keep.map(({ backup }) => backup.id);

  it("is kept by a backup that stopped before it: one that only started before it brings nothing back of then", () => {
    const backups = [
      baseOf({ id: "older", start: 40 }),
      baseOf({ id: "before", start: 60 }),
      baseOf({ id: "across", start: 79, stop: 82 }),
      baseOf({ id: "inside", start: 90 }),
    ];
    expect(kept(backups, 20)).toEqual(["before", "across", "inside"]);
  });

  it("is kept on each timeline with WAL of the window, also where a newer backup is on a timeline that was left", () => {
    const first = baseOf({ id: "first", start: 10 });
    const left = baseOf({ id: "left", start: 30 });
    const fresh = baseOf({ id: "fresh", timeline: 2, start: 90 });
    // Restored to a moment before `left`, and promoted.
    const wal = walOf({
      segments: { 1: range(1, 40), 2: range(20, 95) },
      histories: { 2: [{ timeline: 1, endLsn: at(20, 100) }] },
    });
    const anchors = windowAnchors([first, left, fresh], wal, timeAt(60));
    expect(anchors.map(({ id }) => id)).toEqual(["first"]);
  });
});

/** A server that was restored and promoted now and then: each timeline leaves one before it somewhere. */
const histories = fc
  .array(fc.record({ of: fc.nat(), segment: fc.integer({ min: 3, max: 40 }), byte: fc.constantFrom(0, 100) }), {
    maxLength: 4,
  })
  .map((branches) => {
    const found = new Map<number, { timeline: number; endLsn: bigint }[]>([[1, []]]);
    for (const [nth, { of, segment, byte }] of branches.entries()) {
      const parent = 1 + (of % (nth + 1));
      const path = found.get(parent) ?? [];
      const left = path.at(-1)?.endLsn ?? 0n;
      const endLsn = at(segment, byte) > left ? at(segment, byte) : left + 8n;
      found.set(nth + 2, [...path, { timeline: parent, endLsn }]);
    }
    return found;
  });

const worlds = fc.record({
  histories,
  ends: fc.array(fc.integer({ min: 5, max: 50 }), { minLength: 5, maxLength: 5 }),
  holes: fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 50 })), { maxLength: 3 }),
  drafts: fc.array(
    fc.record({
      timeline: fc.nat(),
      start: fc.integer({ min: 1, max: 45 }),
      length: fc.nat(3),
      incremental: fc.boolean(),
      pinned: fc.boolean(),
    }),
    { minLength: 1, maxLength: 8 },
  ),
  keepLast: fc.integer({ min: 1, max: 3 }),
  windowHours: fc.option(fc.nat(40), { nil: undefined }),
});

it("after a prune, each kept backup still restores to every moment to the end of each timeline that it leads to", () => {
  let removals = 0;
  fc.assert(
    fc.property(worlds, ({ histories, ends, holes, drafts, keepLast, windowHours }) => {
      const first = (timeline: number) =>
        Number((histories.get(timeline)?.at(-1)?.endLsn ?? at(1)) / BigInt(segmentBytes));
      const segments = Object.fromEntries(
        [...histories.keys()].map((timeline) => [
          timeline,
          range(first(timeline), Math.max(first(timeline), ends[timeline - 1] ?? 0)).filter(
            (segment) => !holes.some(([of, hole]) => of === timeline && hole === segment),
          ),
        ]),
      );
      const stored = Object.fromEntries([...histories].filter(([timeline]) => timeline > 1));
      const wal = walOf({ segments, histories: stored });
      const backups = drafts.map((draft, nth) => {
        const timeline = 1 + (draft.timeline % histories.size);
        const start = Math.max(draft.start, first(timeline) + 1);
        const parent = draft.incremental && nth > 0 ? `b${nth - 1}` : undefined;
        return baseOf({ id: `b${nth}`, timeline, start, stop: start + draft.length, parent });
      });
      const keeps = drafts.flatMap(({ pinned }, nth) =>
        pinned
          ? [
              {
                instance: "shared",
                id: `b${nth}`,
                record: { forever: true as const, by: "x", at: "2026-11-01T00:00:00Z" },
              },
            ]
          : [],
      );
      const base = { keepLast, ...(windowHours === undefined ? {} : { windowMs: windowHours * 3_600_000 }) };
      const pruned = planPrune({
        ...{ now: timeAt(60), timeZone: "UTC", backups, unreadable: [], keeps, leftovers: [] },
        policies: new Map([["shared", { logical: {}, base }]]),
      });
      const keep = pruned.keep.map(({ backup }) => ({ backup, pinOnly: pruned.pinOnly.has(nameOf(backup)) }));
      const [found] = planWal({ ...nothing, wal: [wal], backups, keep });
      const gone = new Set(found?.remove.map(({ name }) => name));
      removals += gone.size;
      for (const { backup, reasons } of pruned.keep) {
        const { base: facts } = backup;
        const [start, stop] = [facts.startLsn, facts.stopLsn].map((lsn) => segmentOf(lsn));
        if (start === undefined || stop === undefined) continue;
        for (const number of range(start, stop)) expect(gone).not.toContain(nameAt(facts.timeline, number));
        if (reasons.every((reason) => reason.startsWith("pinned") || reason.startsWith("parent of"))) continue;
        for (const [timeline, ancestors] of histories) {
          const reads = readBy(timeline, ancestors, facts.timeline, stop);
          for (const number of range(start, 60)) expect(gone).not.toContain(nameAt(reads(number), number));
        }
      }
      for (const name of gone) expect(name).not.toMatch(/history$/);
    }),
    { numRuns: 500 },
  );
  expect(removals).toBeGreaterThan(1000);
});

function segmentOf(lsn: string): number {
  const [high = "", low = ""] = lsn.split("/");
  return Number(((BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)) / BigInt(segmentBytes));
}

/**
 * Of which timeline recovery to `target` reads a segment: the newest that the segment is in, as PostgreSQL tries them. Of
 * its own where the path does not lead over the backup.
 */
function readBy(
  target: number,
  ancestors: readonly { timeline: number; endLsn: bigint }[],
  own: number,
  stop: number,
): (segment: number) => number {
  const leaves = ancestors.find(({ timeline }) => timeline === own)?.endLsn;
  const leads = target === own || (leaves !== undefined && leaves >= at(stop, 5000));
  return (segment) => {
    if (!leads) return own;
    let timeline = ancestors[0]?.timeline ?? target;
    for (const [nth, { endLsn }] of ancestors.entries()) {
      if (segment >= Number(endLsn / BigInt(segmentBytes))) timeline = ancestors[nth + 1]?.timeline ?? target;
    }
    return timeline;
  };
}
