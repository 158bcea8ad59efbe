import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EndpointAddress, Switcher } from "../../src/switch/switcher.ts";

/** A real thing that points at `from`, and what the suite must be able to do to it behind the switcher's back. */
export interface SwitchedPlace {
  switcher: Switcher;
  from: EndpointAddress;
  to: EndpointAddress;
  /** Nobody's: somebody else points it there. */
  third: EndpointAddress;
  pointByHand(to: EndpointAddress): Promise<void>;
  /** Everything that pointing could change, as text. */
  content(): Promise<string>;
  /** The port of the server that an application reaches which connects now. */
  reached(): Promise<number>;
  /** Takes away what the switcher speaks to: its program, its file. */
  remove(): Promise<void>;
  /** What must stand in no message. */
  secrets: readonly string[];
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ConformanceOptions {
  /** It has no say about where it points: a program is not asked. */
  cannotBeAsked?: true;
}

const never = new AbortController().signal;

/** What every switcher promises, one test a promise. They follow on each other: the place is made once. */
export function switcherConformance(
  kind: Switcher["kind"],
  make: () => Promise<SwitchedPlace>,
  { cannotBeAsked }: ConformanceOptions = {},
): void {
  describe(`the switcher ${kind}`, () => {
    let place: SwitchedPlace;
    beforeAll(async () => {
      place = await make();
    });
    afterAll(async () => await place?.[Symbol.asyncDispose]());

    test("says what it is, and no secret", () => {
      expect(place.switcher.kind).toBe(kind);
      expect(place.switcher.where).not.toBe("");
      for (const secret of place.secrets) expect(place.switcher.where).not.toContain(secret);
    });

    test("gives where it points", async () => {
      expect(await place.switcher.current(never)).toMatchObject(addressOf(place.from));
    });

    test("its plan says what it will do, and changes nothing", async () => {
      const before = await place.content();
      const plan = await place.switcher.plan?.(place.to, never);
      expect(plan?.does.join()).toContain(String(place.to.port));
      for (const risk of [...(plan?.refusals ?? []), ...(plan?.warnings ?? [])]) expect(risk.hint).not.toBe("");
      for (const secret of place.secrets) expect(JSON.stringify(plan)).not.toContain(secret);
      expect(await place.content()).toBe(before);
      expect(await place.reached()).toBe(place.from.port);
    });

    test("holds nobody back after a resume without a pause, and after a second resume", async () => {
      const { switcher } = place;
      await switcher.resume?.(never);
      await switcher.pause?.(never);
      await switcher.pause?.(never);
      await switcher.resume?.(never);
      await switcher.resume?.(never);
      expect(await place.reached()).toBe(place.from.port);
    });

    test("where the signal is aborted it fails, and changes nothing", async () => {
      const before = await place.content();
      const stop = AbortSignal.abort(new Error("the move was stopped"));
      await expect(place.switcher.point(place.from, place.to, stop)).rejects.toThrow("the move was stopped");
      await expect(place.switcher.current(stop)).rejects.toThrow("the move was stopped");
      expect(await place.content()).toBe(before);
    });

    test("points elsewhere, and whoever connects now is there", async () => {
      await place.switcher.point(place.from, place.to, never);
      expect(await place.reached()).toBe(place.to.port);
      expect(await place.switcher.current(never)).toMatchObject(addressOf(place.to));
    });

    test("pointed again it changes nothing", async () => {
      const before = await place.content();
      await place.switcher.point(place.from, place.to, never);
      expect(await place.content()).toBe(before);
      expect(await place.reached()).toBe(place.to.port);
    });

    test("of two at once that want the same, both are content", async () => {
      await place.pointByHand(place.from);
      const point = () => place.switcher.point(place.from, place.to, never);
      const outcomes = await Promise.allSettled([point(), point()]);
      const failures = outcomes.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
      // The slower one may find that the file has changed under it; never that of another content.
      for (const failure of failures) expect(failure).toMatchObject({ code: "switch-conflict" });
      expect(failures.length).toBeLessThan(2);
      expect(await place.reached()).toBe(place.to.port);
    });

    test("there and back again it holds what it held", async () => {
      await place.pointByHand(place.from);
      const before = await place.content();
      await place.switcher.point(place.from, place.to, never);
      expect(await place.content()).not.toBe(before);
      await place.switcher.point(place.to, place.from, never);
      expect(await place.content()).toBe(before);
      expect(await place.reached()).toBe(place.from.port);
      expect(await place.switcher.current(never)).toMatchObject(addressOf(place.from));
    });

    test("where somebody else has pointed it to a third place it fails, and overwrites nothing", async () => {
      await place.pointByHand(place.third);
      const before = await place.content();
      for (const [from, to] of [
        [place.from, place.to],
        [place.to, place.from],
      ] as const) {
        const failure = await place.switcher.point(from, to, never).catch((error: unknown) => error);
        expect(failure).toMatchObject({ code: "switch-conflict", hint: expect.stringMatching(/\w/) });
        expect(String(failure)).toContain(String(place.to.port));
        for (const secret of place.secrets) expect(String(failure)).not.toContain(secret);
      }
      expect(await place.content()).toBe(before);
      if (cannotBeAsked === undefined)
        expect(await place.switcher.current(never)).toMatchObject(addressOf(place.third));
      await place.pointByHand(place.from);
    });

    test("that is gone fails with a hint, and has no default", async () => {
      await place.remove();
      const { switcher, from, to, secrets } = place;
      const failures = await Promise.all([
        ...(cannotBeAsked === undefined ? [switcher.current(never).catch((error: unknown) => error)] : []),
        switcher.point(from, to, never).catch((error: unknown) => error),
      ]);
      for (const failure of failures) {
        expect(failure).toMatchObject({
          code: expect.stringMatching(/^switch-(unreachable|failed)$/),
          hint: expect.stringMatching(/\w/),
        });
        for (const secret of secrets) expect(String(failure)).not.toContain(secret);
      }
    });
  });
}

function addressOf({ host, port, database }: EndpointAddress): EndpointAddress {
  return { host, port, database };
}
