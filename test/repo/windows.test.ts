import { describe, expect, it } from "vitest";
import { formatLsn } from "../../src/lib/lsn.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { StoredWal } from "../../src/repo/wal-inventory.ts";
import { parseHistory } from "../../src/repo/wal-inventory.ts";
import { recoveryWindows, type StretchTimes, windowStretches } from "../../src/repo/windows.ts";
import { at, baseOf, nameAt, range, segmentBytes, timeAt, walOf } from "./wal-support.ts";

/** As if the last transaction of each stretch were half an hour into its last segment, and the first a minute. */
function windows(backups: Manifest[], wal: StoredWal[], { idle = false, unread = false } = {}) {
  const inventories = wal.map(({ inventory }) => inventory);
  const times = new Map(
    windowStretches(backups, inventories).map(({ key, stretch }): [string, StretchTimes] => {
      if (stretch === undefined || idle) return [key, {}];
      if (unread) return [key, { unread: true }];
      const [first, last] = [stretch.startLsn, stretch.endLsn].map((lsn) => Number(lsn / BigInt(segmentBytes)));
      const time = new Date(timeAt((last ?? 0) - 1).getTime() + 1_800_000);
      const begin = new Date(timeAt(first ?? 0).getTime() + 60_000);
      return [key, { first: begin, last: { time, endLsn: stretch.endLsn - 100n } }];
    }),
  );
  return recoveryWindows(backups, inventories, times);
}

const halfPast = (segment: number) => new Date(timeAt(segment).getTime() + 1_800_000);
const stopOf = (segment: number) => new Date(timeAt(segment).getTime() + 120_000);

describe("recovery windows", () => {
  it("go from where the first backup stopped to the last transaction, and name all backups in it", () => {
    const backups = [baseOf({ id: "a", start: 3, stop: 4 }), baseOf({ id: "b", start: 7 })];
    expect(windows(backups, [walOf({ segments: { 1: range(1, 9) } })])).toEqual([
      {
        ...{ instance: "shared", systemId: "7000000000000000001", timeline: 1, toIsEstimate: false, gaps: [] },
        ...{ from: stopOf(4), to: halfPast(9), toLsn: formatLsn(at(10) - 100n), backups: ["a", "b"] },
      },
    ]);
  });

  it("end at a gap, which is named with positions, times and what was recorded; behind it only a later backup begins one", () => {
    const gaps = [{ timeline: 1, from: 6, to: 8, reason: "the slot was dropped, as the disk was full" }];
    const wal = walOf({ segments: { 1: [...range(1, 5), ...range(8, 12)] }, gaps });
    const gap = {
      ...{ timeline: 1, fromLsn: formatLsn(at(6)), toLsn: formatLsn(at(8)) },
      ...{ from: halfPast(5), to: new Date(timeAt(8).getTime() + 60_000), reason: gaps[0]?.reason },
    };
    const before = baseOf({ id: "a", start: 3 });
    expect(windows([before], [wal])).toMatchObject([{ to: halfPast(5), gaps: [gap], backups: ["a"] }]);
    const both = windows([before, baseOf({ id: "b", start: 9 })], [wal]);
    expect(both).toMatchObject([
      { from: stopOf(3), to: halfPast(5), gaps: [gap], backups: ["a"] },
      { from: stopOf(9), to: halfPast(12), gaps: [], backups: ["b"] },
    ]);
    expect(windows([baseOf({ id: "over", start: 5, stop: 8 })], [wal])).toEqual([]);
  });

  it("end where WAL was given up, also when nothing behind it is stored yet", () => {
    const gaps = [{ timeline: 1, from: 6, to: 9, reason: "given up" }];
    const [window] = windows([baseOf({ id: "a", start: 3 })], [walOf({ segments: { 1: range(1, 5) }, gaps })]);
    expect(window?.gaps).toMatchObject([{ fromLsn: formatLsn(at(6)), toLsn: formatLsn(at(9)), reason: "given up" }]);
    const filled = walOf({ segments: { 1: range(1, 12) }, gaps });
    expect(windows([baseOf({ id: "a", start: 3 })], [filled])).toMatchObject([{ gaps: [], to: halfPast(12) }]);
  });

  it("reach into the partial segment right behind the last whole one, and no other", () => {
    const backup = baseOf({ id: "a", start: 3 });
    const to = (partial: number) =>
      windows([backup], [walOf({ segments: { 1: range(1, 5) }, partials: { 1: partial } })]).map((window) => window.to);
    expect(to(6)).toEqual([halfPast(6)]);
    expect(to(7)).toEqual([halfPast(5)]);
    // Left over from before the whole one was stored.
    expect(to(5)).toEqual([halfPast(5)]);
  });

  it("go along each timeline that a backup leads to, over the segment in which the old one was left", () => {
    const wal = walOf({
      // The old server archived the last one of timeline 1 as a partial one when it was promoted.
      segments: { 1: range(1, 5), 2: range(6, 9) },
      partials: { 1: 6 },
      histories: { 2: [{ timeline: 1, endLsn: at(6, 500) }] },
    });
    const found = windows([baseOf({ id: "a", start: 3 }), baseOf({ id: "b", timeline: 2, start: 8 })], [wal]);
    expect(found).toMatchObject([
      { timeline: 1, from: stopOf(3), to: halfPast(6), backups: ["a"] },
      { timeline: 2, from: stopOf(3), to: halfPast(9), backups: ["a", "b"], gaps: [] },
    ]);
  });

  it("do not lead from a backup to a timeline that left before it stopped", () => {
    const histories = { 2: [{ timeline: 1, endLsn: at(6, 500) }] };
    const wal = walOf({ segments: { 1: range(1, 9), 2: range(6, 9) }, histories });
    const found = windows([baseOf({ id: "late", start: 7 })], [wal]);
    expect(found).toMatchObject([{ timeline: 1, backups: ["late"] }]);
  });

  it("of an instance that was several servers are told apart by their system ids", () => {
    const backups = [baseOf({ id: "a", systemId: "1", start: 3 }), baseOf({ id: "b", systemId: "2", start: 4 })];
    const wal = ["1", "2", "3"].map((systemId) => walOf({ systemId, segments: { 1: range(1, 9) } }));
    expect(windows(backups, wal)).toMatchObject([
      { systemId: "1", backups: ["a"] },
      { systemId: "2", backups: ["b"] },
    ]);
  });

  it("begin with no backup whose chain lacks a link, or whose own WAL is not stored", () => {
    const wal = [walOf({ segments: { 1: range(4, 9) } })];
    expect(windows([baseOf({ id: "i", start: 5, parent: "gone" })], wal)).toEqual([]);
    expect(windows([baseOf({ id: "early", start: 3, stop: 5 })], wal)).toEqual([]);
    const inside = baseOf({ id: "inside", start: 3, stop: 5, walIncluded: true });
    expect(windows([inside], wal)).toMatchObject([{ from: stopOf(5), to: halfPast(9) }]);
    const alone = baseOf({ id: "alone", start: 20, walIncluded: true });
    expect(windows([alone], wal)).toMatchObject([{ from: stopOf(20), to: stopOf(20), backups: ["alone"] }]);
  });

  it("of a server that did nothing since end where its newest backup stopped", () => {
    const backups = [baseOf({ id: "a", start: 3 }), baseOf({ id: "b", start: 7 })];
    const wal = [walOf({ segments: { 1: range(1, 9) } })];
    expect(windows(backups, wal, { idle: true })).toMatchObject([{ to: stopOf(7) }]);
  });

  it("say that their end is an estimate where nobody could read the WAL", () => {
    const found = windows([baseOf({ id: "a", start: 3 })], [walOf({ segments: { 1: range(1, 9) } })], { unread: true });
    expect(found).toMatchObject([{ to: timeAt(10), toIsEstimate: true }]);
  });
});

describe("a timeline's history", () => {
  it("is read as PostgreSQL writes it, with comments and reasons of several words", () => {
    const text =
      '# by hand\n1\t0/3000148\tno recovery target specified\n\n2\tA/FF000000\tat restore point "before drop"\n';
    expect(parseHistory("00000003.history", text)).toEqual({
      timeline: 3,
      ancestors: [
        { timeline: 1, endLsn: 0x3000148n, reason: "no recovery target specified" },
        { timeline: 2, endLsn: 0xa_ff00_0000n, reason: 'at restore point "before drop"' },
      ],
    });
  });

  it("that is damaged is refused", () => {
    expect(() => parseHistory("00000003.history", "1\t0/3000148\tok\n2\t0/")).toThrow(/a line that is no ancestor/);
  });
});

it("runs and names of segments agree over the border of 4 GB", () => {
  const { inventory } = walOf({ segments: { 1: [254, 255, 256, 257] } });
  expect(nameAt(1, 256)).toBe("000000010000000100000000");
  expect(inventory.timelines).toMatchObject([{ runs: [{ startLsn: at(254), endLsn: at(258), segments: 4 }] }]);
});
