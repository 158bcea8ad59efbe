import fc from "fast-check";
import { expect, it } from "vitest";
import type { Keep } from "../../src/repo/keep.ts";
import { nameOf, type PrunableBackup, type PruneInput, planPrune } from "../../src/repo/retention.ts";
import type { RetentionRules } from "../../src/repo/retention-rules.ts";

type Input = PruneInput<PrunableBackup>;

const hourMs = 3_600_000;
const startMs = Date.parse("2026-01-01T00:00:00Z");
/** Half hours of some 400 days: many share a day, some a moment. */
const moment = fc.oneof(fc.nat(60), fc.nat(1000), fc.nat(20_000)).map((nth) => new Date(startMs + nth * (hourMs / 2)));
const instance = fc.constantFrom("shared", "shared", "shared", "other");

function seldom<T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });
}

const drafts = fc.array(
  fc.record({
    instance,
    kind: fc.constantFrom("logical" as const, "base" as const),
    database: fc.constantFrom("litellm", "litellm", "n8n"),
    systemId: fc.constantFrom("1", "1", "1", "2"),
    startedAt: moment,
    parentOf: fc.option(fc.nat(), { nil: undefined }),
    pinned: seldom(fc.oneof(moment, fc.constant("forever" as const))),
    bad: seldom(fc.constant(true)),
    locked: seldom(moment),
  }),
  { maxLength: 30, size: "max" },
);

const count = fc.oneof(fc.constant(undefined), fc.constant(undefined), fc.nat(3));
const someRules: fc.Arbitrary<RetentionRules> = fc
  .record({
    keepLast: count,
    keepHourly: count,
    keepDaily: count,
    keepWeekly: count,
    keepMonthly: count,
    keepYearly: count,
    windowMs: seldom(fc.nat(100).map((days) => days * 24 * hourMs)),
  })
  .filter((rules) => {
    const given = Object.values(rules).filter((rule) => rule !== undefined);
    return given.length === 0 || given.some((rule) => rule > 0);
  });

const inputs: fc.Arbitrary<Input> = fc
  .record({
    drafts,
    shared: someRules,
    base: someRules,
    now: moment,
    timeZone: fc.constantFrom("UTC", "Europe/Berlin", "Pacific/Auckland"),
    unreadable: seldom(instance.map((name) => ({ instance: name, id: "unreadable" }))),
  })
  .map(({ drafts, shared, base, now, timeZone, unreadable }) => {
    const backups = drafts.map((draft, nth): PrunableBackup => {
      const { instance, kind, database, systemId, startedAt, parentOf } = draft;
      const before = drafts
        .slice(0, nth)
        .flatMap((other, at) => (other.kind === "base" && other.instance === instance ? [at] : []));
      const parent = parentOf === undefined || kind === "logical" ? undefined : before[parentOf % (before.length || 1)];
      return {
        id: `b${nth}`,
        instance,
        kind,
        ...(kind === "logical" ? { database } : {}),
        ...(parent === undefined ? {} : { parent: `b${parent}` }),
        startedAt: startedAt.toISOString(),
        server: { version: "18.1", systemId },
      };
    });
    const keeps = drafts.flatMap(({ instance, pinned }, nth) =>
      pinned === undefined ? [] : [pin(instance, `b${nth}`, pinned)],
    );
    const named = <T>(value: (draft: (typeof drafts)[number]) => T) =>
      drafts.map((draft, nth) => [`${draft.instance}/b${nth}`, value(draft)] as const);
    return {
      backups,
      keeps,
      unreadable: unreadable === undefined ? [] : [unreadable],
      leftovers: [],
      policies: new Map([["shared", { logical: shared, base }]]),
      timeZone,
      now,
      bad: new Set(named(({ bad }) => bad).flatMap(([name, bad]) => (bad === true ? [name] : []))),
      locked: new Map(
        named(({ locked }) => locked).flatMap(([name, until]) => (until === undefined ? [] : [[name, until] as const])),
      ),
    };
  });

function pin(instance: string, id: string, until: Date | "forever"): Keep {
  const note = { by: "alice", at: "2026-01-01T00:00:00Z" };
  return {
    instance,
    id,
    record: until === "forever" ? { forever: true, ...note } : { until: until.toISOString(), ...note },
  };
}

function removed(input: Input): Set<string> {
  return new Set(planPrune(input).remove.map(nameOf));
}

/** Those of `part` that are not in `whole`. */
function missingIn(whole: ReadonlySet<string>, part: ReadonlySet<string>): string[] {
  return [...part].filter((name) => !whole.has(name));
}

function groupOf({ instance, server, kind, database }: PrunableBackup): string {
  return [instance, server.systemId, kind, database].join(" ");
}

function holds(property: (input: Input) => void): void {
  fc.assert(fc.property(inputs, property), { numRuns: 400 });
}

it("each backup is either kept, with a reason, or removed", () => {
  holds((input) => {
    const plan = planPrune(input);
    expect([...plan.keep.map(({ backup }) => nameOf(backup)), ...plan.remove.map(nameOf)].sort()).toEqual(
      input.backups.map(nameOf).sort(),
    );
    for (const { reasons } of plan.keep) expect(reasons.length).toBeGreaterThan(0);
  });
});

it("the newest good backup of a group, and of a group without good ones the newest, is never removed", () => {
  holds((input) => {
    const gone = removed(input);
    const past = input.backups.filter(({ startedAt }) => new Date(startedAt) <= input.now);
    for (const group of Map.groupBy(past, groupOf).values()) {
      const good = group.filter((backup) => !input.bad?.has(nameOf(backup)));
      const candidates = good.length > 0 ? good : group;
      const newest = Math.max(...candidates.map(({ startedAt }) => Date.parse(startedAt)));
      const left = candidates.filter((backup) => Date.parse(backup.startedAt) === newest && !gone.has(nameOf(backup)));
      expect(left.length).toBeGreaterThan(0);
    }
  });
});

it("no pinned, locked or future backup is ever removed, and none that a kept one builds on", () => {
  holds((input) => {
    const gone = removed(input);
    const pinned = input.keeps.filter(
      (keep) => "record" in keep && (keep.record.forever === true || new Date(keep.record.until) > input.now),
    );
    for (const keep of pinned) expect(gone).not.toContain(nameOf(keep));
    for (const [name, until] of input.locked ?? []) if (until > input.now) expect(gone).not.toContain(name);
    for (const backup of input.backups) {
      if (Date.parse(backup.startedAt) > input.now.getTime() + hourMs / 4) expect(gone).not.toContain(nameOf(backup));
      const { instance, parent } = backup;
      if (parent !== undefined && !gone.has(nameOf(backup)))
        expect(gone).not.toContain(nameOf({ instance, id: parent }));
    }
  });
});

it("children are removed before their parents", () => {
  holds((input) => {
    const order = planPrune(input).remove;
    const places = new Map(order.map((backup, place) => [nameOf(backup), place]));
    for (const [place, { instance, parent }] of order.entries()) {
      if (parent !== undefined) expect(places.get(nameOf({ instance, id: parent })) ?? Infinity).toBeGreaterThan(place);
    }
  });
});

it("planning again on what remains removes nothing", () => {
  holds((input) => {
    const gone = removed(input);
    const rest = input.backups.filter((backup) => !gone.has(nameOf(backup)));
    expect(removed({ ...input, backups: rest })).toEqual(new Set());
  });
});

it("one more pin never makes another backup go", () => {
  fc.assert(
    fc.property(inputs, fc.nat(), moment, (input, nth, until) => {
      const chosen = input.backups[nth % (input.backups.length || 1)];
      if (chosen === undefined) return;
      const more = removed({ ...input, keeps: [...input.keeps, pin(chosen.instance, chosen.id, until)] });
      expect(missingIn(removed(input), more)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

it("a larger policy keeps all that a smaller one keeps", () => {
  fc.assert(
    fc.property(inputs, someRules, (input, extra) => {
      const rules = input.policies.get("shared")?.logical ?? {};
      // Where nothing is configured everything is kept, so there is nothing larger.
      if (Object.values(rules).every((rule) => rule === undefined)) return;
      const larger = Object.fromEntries(
        (["keepLast", "keepHourly", "keepDaily", "keepWeekly", "keepMonthly", "keepYearly", "windowMs"] as const).map(
          (rule) => {
            const sum = (rules[rule] ?? 0) + (extra[rule] ?? 0);
            return [rule, rules[rule] === undefined && extra[rule] === undefined ? undefined : sum];
          },
        ),
      );
      const policies = (logical: RetentionRules) => new Map([["shared", { logical, base: {} }]]);
      const before = removed({ ...input, policies: policies(rules) });
      const after = removed({ ...input, policies: policies(larger) });
      expect(missingIn(before, after)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

it("time that passes brings nothing back", () => {
  fc.assert(
    fc.property(inputs, fc.nat(5000), (input, hours) => {
      const later = new Date(input.now.getTime() + hours * hourMs);
      const [before, after] = [removed(input), removed({ ...input, now: later })];
      expect(missingIn(after, before)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

it("a backup found damaged makes no other go", () => {
  fc.assert(
    fc.property(inputs, fc.nat(), (input, nth) => {
      const chosen = input.backups[nth % (input.backups.length || 1)];
      if (chosen === undefined) return;
      const after = removed({ ...input, bad: new Set([...(input.bad ?? []), nameOf(chosen)]) });
      after.delete(nameOf(chosen));
      expect(missingIn(removed(input), after)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

it("damaged backups push no good one out", () => {
  holds((input) => {
    const good = input.backups.filter((backup) => !input.bad?.has(nameOf(backup)));
    const goneWithout = removed({ ...input, backups: good });
    const gone = [...removed(input)].filter((name) => !input.bad?.has(name));
    expect(missingIn(goneWithout, new Set(gone))).toEqual([]);
  });
});

it("the order in which backups were read does not matter", () => {
  fc.assert(
    fc.property(inputs, fc.nat(), (input, turn) => {
      const at = turn % (input.backups.length || 1);
      const turned = [...input.backups.slice(at), ...input.backups.slice(0, at)].reverse();
      const plans = [planPrune(input), planPrune({ ...input, backups: turned, keeps: input.keeps.toReversed() })];
      const sorted = plans.map(({ keep, remove }) => ({
        keep: keep.map(({ backup, reasons }) => ({ backup, reasons: reasons.toSorted() })),
        remove,
      }));
      expect(sorted[0]).toEqual(sorted[1]);
    }),
    { numRuns: 400 },
  );
});
