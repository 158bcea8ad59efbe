import { describe, expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { systemClock } from "../../src/lib/time.ts";
import { exitStatusOf, type Finding } from "../../src/prove/finding.ts";
import { ledger } from "../../src/prove/ledger.ts";

const never = new Promise<never>(() => undefined);

function book(deadlineMs = 5_000, signal = new AbortController().signal) {
  return ledger("instance shared", { clock: systemClock, signal, deadlineMs });
}

describe("the ledger of pgkit check", () => {
  it("turns what a check throws into a finding with its remedy, and goes on", async () => {
    const { run, findings, bugs } = book();
    const given = await run("tls", () => Promise.reject(new PgkitError("postgres-denied", "no", { hint: "ask" })));
    await run("soft", () => Promise.reject(new PgkitError("postgres-failed", "no view")), { failsAs: "warning" });
    expect(await run("next", async (found) => found.ok("fine"))).toBeUndefined();
    expect(given).toBeUndefined();
    expect(findings()).toEqual([
      {
        subject: "instance shared",
        check: "tls",
        level: "error",
        code: "postgres-denied",
        message: "no",
        remedy: "ask",
      },
      { subject: "instance shared", check: "soft", level: "warning", message: "no view" },
      { subject: "instance shared", check: "next", level: "ok", message: "fine" },
    ]);
    expect(bugs).toEqual([]);
  });

  it("keeps a bug for its stack to be shown", async () => {
    const { run, findings, bugs } = book();
    const bug = new TypeError("x is not a function");
    await run("tls", () => Promise.reject(bug));
    expect(bugs).toEqual([bug]);
    expect(findings()).toMatchObject([{ level: "error", code: "bug" }]);
    expect(exitStatusOf(findings())).toBe(1);
  });

  it("does not wait for a check that hangs, and hears nothing of it afterwards", async () => {
    const { run, findings } = book(50);
    let tell: () => void = () => undefined;
    await run(
      "slow",
      async (found) => {
        tell = () => found.ok("done after all");
        await never;
      },
      { late: "store-unreachable" },
    );
    tell();
    expect(findings()).toMatchObject([
      { level: "error", code: "store-unreachable", message: "no answer within 0.1 s" },
    ]);
  });

  it("ends with the run, which is no finding", async () => {
    const stop = new AbortController();
    const { run, findings } = book(5_000, stop.signal);
    const running = run("slow", () => never);
    const reason = new PgkitError("cancelled", "stopped by SIGINT");
    stop.abort(reason);
    await expect(running).rejects.toBe(reason);
    expect(findings()).toEqual([]);
  });

  it("keeps the order in which checks began, whichever ends first", async () => {
    const { run, about, findings } = book();
    let finish: () => void = () => undefined;
    const first = run("first", async (found) => {
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      found.ok("1");
    });
    await about("database shared/app").run("second", async (found) => found.ok("2"));
    finish();
    await first;
    expect(findings().map(({ message, subject }) => [message, subject])).toEqual([
      ["1", "instance shared"],
      ["2", "database shared/app"],
    ]);
  });

  it.each([
    [[], 0],
    [[["warning"]], 0],
    [[["ok"], ["error", "store-denied"], ["error", "config"]], 12],
    [[["error", "store-full"]], 13],
    [[["error", "postgres-unreachable"]], 14],
    [[["error", "config"]], 2],
    [[["error", "tool-missing"]], 30],
    [[["error"]], 40],
  ] as const)("%j gives the exit status %i", (list, status) => {
    const findings = list.map(([level, code]) => ({
      subject: "",
      check: "",
      level,
      message: "",
      ...(code && { code }),
    }));
    expect(exitStatusOf(findings as Finding[])).toBe(status);
  });
});
