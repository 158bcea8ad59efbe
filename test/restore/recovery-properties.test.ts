import { expect, test } from "vitest";
import { isPgkitError } from "../../src/lib/errors.ts";
import { parseLsn } from "../../src/lib/lsn.ts";
import {
  planRecovery,
  type RecoveryInventory,
  type RecoveryPlan,
  type RecoveryRequest,
  type StoredEnd,
} from "../../src/restore/recovery-plan.ts";
import { microseconds } from "../../src/restore/recovery-target.ts";
import { base, last, segmentBytes, to, toLsn, toTime, wal } from "./recovery-builders.ts";

/** A world of up to three timelines in which every segment holds one transaction, of 10 s later than the one before. */
interface World {
  /** timeline: the segments that are stored. */
  stored: Map<number, Set<number>>;
  /** timeline: where it left which, in segments and a half. */
  switches: Map<number, [number, number][]>;
  backups: { timeline: number; segment: number }[];
}

function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function worldOf(seed: number): World {
  const roll = dice(seed);
  const switches = new Map<number, [number, number][]>([[1, []]]);
  const stored = new Map<number, Set<number>>([[1, range(1, 12 + roll(8))]]);
  for (let timeline = 2; timeline <= 1 + roll(3); timeline++) {
    const parent = 1 + roll(timeline - 1);
    const before = switches.get(parent) ?? [];
    const from = Math.floor(before.at(-1)?.[1] ?? 2) + 1 + roll(6);
    switches.set(timeline, [...before, [parent, from + 0.5]]);
    stored.set(timeline, range(from, from + 3 + roll(8)));
  }
  for (const segments of stored.values()) {
    for (const segment of [...segments]) if (roll(14) === 0) segments.delete(segment);
  }
  const backups = Array.from({ length: 1 + roll(3) }, () => {
    const timeline = 1 + roll(stored.size);
    const least = Math.min(...(stored.get(timeline) ?? [1])) + 1;
    return { timeline, segment: least + roll(5) };
  });
  return { stored, switches, backups: backups.sort((a, b) => a.segment - b.segment) };
}

function range(from: number, to: number): Set<number> {
  return new Set(Array.from({ length: to - from }, (_, index) => from + index));
}

/** The transaction of a segment lies in its first quarter; on a timeline that was just begun, behind the switch. */
const secondsOf = (timeline: number, segment: number) => timeline * 1000 + segment * 10;

function inventoryOf({ stored, switches, backups }: World): RecoveryInventory {
  const timelines: Record<number, [number, number][]> = {};
  const ends: StoredEnd[] = [];
  for (const [timeline, segments] of stored) {
    const runs: [number, number][] = [];
    for (const segment of [...segments].sort((a, b) => a - b)) {
      const run = runs.at(-1);
      if (run?.[1] === segment) run[1]++;
      else runs.push([segment, segment + 1]);
    }
    timelines[timeline] = runs;
    ends.push(...runs.map(([, end]) => last(timeline, end, end - 0.25, secondsOf(timeline, end))));
  }
  for (const history of switches.values()) {
    for (const [left, position] of history) {
      const segment = Math.floor(position);
      ends.push(last(left, position, segment + 0.25, secondsOf(left, segment) + 5));
    }
  }
  const histories = Object.fromEntries([...switches].filter(([, history]) => history.length > 0));
  return {
    ...{ instance: "shared", wal: [wal(timelines, histories)], ends },
    backups: backups.map(({ timeline, segment }, index) =>
      base(`b${index}`, {
        ...{ timeline, start: segment + 0.5, stop: segment + 0.75 },
        stoppedAt: secondsOf(timeline, segment) + 9,
      }),
    ),
  };
}

function attempt(inventory: RecoveryInventory, request: RecoveryRequest): RecoveryPlan | undefined {
  try {
    return planRecovery(inventory, request);
  } catch (error) {
    if (isPgkitError(error) && error.code !== "bug") return undefined;
    throw error;
  }
}

function requestsOf(seed: number): RecoveryRequest[] {
  const roll = dice(seed + 77);
  const timeline = 1 + roll(3);
  return [
    to({ type: "latest" }),
    to({ type: "latest" }, { timeline }),
    to({ type: "immediate" }),
    to(toLsn(1 + roll(24) + 0.125)),
    to(toLsn(1 + roll(24) + 0.125), { timeline }),
    to(toTime(secondsOf(timeline, 1 + roll(20)) + 3)),
    to(toTime(secondsOf(timeline, 1 + roll(20)) + 3), { timeline }),
  ];
}

const segmentsOf = (plan: RecoveryPlan) =>
  plan.wal.flatMap(({ timeline, startLsn, endLsn }) => {
    const size = BigInt(segmentBytes);
    const count = Number((endLsn + size - 1n) / size - startLsn / size);
    return Array.from({ length: count }, (_, index) => ({ timeline, segment: Number(startLsn / size) + index }));
  });

const seeds = Array.from({ length: 400 }, (_, seed) => seed);

test("a plan names only what is stored, in one piece, from a backup that ends before the target", () => {
  let planned = 0;
  for (const seed of seeds) {
    const world = worldOf(seed);
    for (const request of requestsOf(seed)) {
      const plan = attempt(inventoryOf(world), request);
      if (plan === undefined) continue;
      planned++;
      const segments = segmentsOf(plan);
      for (const { timeline, segment } of segments)
        expect(world.stored.get(timeline)?.has(segment), `${seed}`).toBe(true);
      expect(
        segments.map(({ segment }) => segment),
        `${seed}`,
      ).toEqual(segments.map((_, index) => (segments[0]?.segment ?? 0) + index));
      expect(segments.length).toBe(plan.walSegments);
      const { startLsn, stopLsn, timeline, stoppedAt } = plan.backup.base;
      expect(plan.wal[0]?.startLsn ?? 0n).toBeLessThanOrEqual(parseLsn(startLsn));
      expect(plan.wal.at(-1)?.endLsn ?? 0n).toBeGreaterThanOrEqual(parseLsn(stopLsn));
      const way = [...(world.switches.get(plan.timeline) ?? []), [plan.timeline, Number.POSITIVE_INFINITY] as const];
      const left = way.find(([each]) => each === timeline)?.[1] ?? -1;
      expect(
        Number(parseLsn(stopLsn)) / segmentBytes,
        `${seed}: ${timeline} leads to ${plan.timeline}`,
      ).toBeLessThanOrEqual(left);
      if (request.target.type === "lsn") expect(parseLsn(stopLsn)).toBeLessThanOrEqual(request.target.lsn);
      if (request.target.type === "time")
        expect(microseconds(stoppedAt)).toBeLessThan(microseconds(request.target.text));
      if (request.target.type === "latest") {
        const newest = Math.max(...(world.stored.get(plan.timeline) ?? [0]));
        expect(segments.at(-1)?.segment, `${seed}: never silently short`).toBe(newest);
      }
    }
  }
  expect(planned).toBeGreaterThan(400);
});

test("with any segment of a plan gone, the plan is refused or made without it", () => {
  for (const seed of seeds.slice(0, 80)) {
    for (const request of requestsOf(seed)) {
      const plan = attempt(inventoryOf(worldOf(seed)), request);
      for (const { timeline, segment } of plan === undefined ? [] : segmentsOf(plan)) {
        const world = worldOf(seed);
        world.stored.get(timeline)?.delete(segment);
        const other = attempt(inventoryOf(world), request);
        const uses = other && segmentsOf(other).some((each) => each.timeline === timeline && each.segment === segment);
        expect(uses ?? false, `${seed}: ${timeline}/${segment}`).toBe(false);
      }
    }
  }
});

test("planning the same twice gives the same, and the plan's own words make it again", () => {
  for (const seed of seeds.slice(0, 100)) {
    const inventory = inventoryOf(worldOf(seed));
    for (const request of requestsOf(seed)) {
      const plan = attempt(inventory, request);
      if (plan === undefined) continue;
      const explicit = { ...request, backup: plan.backup.id, timeline: plan.timeline, systemId: plan.systemId };
      expect(attempt(inventory, explicit)?.wal, `${seed}`).toEqual(plan.wal);
    }
  }
});
