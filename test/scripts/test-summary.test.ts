import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";

const script = join(import.meta.dirname, "../../scripts/test-summary.ts");
let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pgkit-summary-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it("adds up the runs, and is content when all passed", () => {
  expect(summary([{ passed: 3 }, { passed: 4 }])).toEqual({ line: "7 passed, 0 failed\n", status: 0 });
});

it.each([
  ["a test that failed", { passed: 3, failed: 1, exit: 1 }, "8 passed, 1 failed\n"],
  ["a test that was skipped", { passed: 3, skipped: 2 }, "8 passed, 0 failed, 2 skipped\n"],
  ["a file that did not load", { passed: 3, exit: 1, unloaded: true }, "8 passed, 1 failed\n"],
  ["an error outside of every test", { passed: 3, exit: 1 }, "8 passed, 1 failed\n"],
  ["a run without tests", { passed: 0 }, "5 passed, 1 failed\n"],
  ["a run that died", { exit: 137, died: true }, "5 passed, 1 failed\n"],
] as const)("fails for %s", (_, run, line) => {
  expect(summary([{ passed: 5 }, run])).toEqual({ line, status: 1 });
});

it("names what failed and why above it, for whoever has the end of the log alone", () => {
  const name = join(folder, "named");
  const test = { status: "failed", fullName: "a backup is whole", failureMessages: ["expected 1 to be 2"] };
  const testResults = [{ name: "test/a.test.ts", status: "failed", assertionResults: [test] }];
  writeFileSync(`${name}.status`, "1\n");
  writeFileSync(`${name}.json`, JSON.stringify({ ...report({ passed: 1, failed: 1 }), testResults }));
  const { stdout } = spawnSync(process.execPath, [script, name], { encoding: "utf8" });
  expect(stdout).toBe("FAILED test/a.test.ts: a backup is whole\nexpected 1 to be 2\n1 passed, 1 failed\n");
});

interface Run {
  passed?: number;
  failed?: number;
  skipped?: number;
  exit?: number;
  unloaded?: boolean;
  died?: boolean;
}

function summary(runs: readonly Run[]): { line: string; status: number | null } {
  const names = runs.map((run, index) => {
    const name = join(folder, `${index}`);
    writeFileSync(`${name}.status`, `${run.exit ?? 0}\n`);
    if (!run.died) writeFileSync(`${name}.json`, JSON.stringify(report(run)));
    return name;
  });
  const { stdout, status } = spawnSync(process.execPath, [script, ...names], { encoding: "utf8" });
  return { line: stdout.slice(stdout.trimEnd().lastIndexOf("\n") + 1), status };
}

/** As vitest's JSON reporter writes it. */
function report({ passed = 0, failed = 0, skipped = 0, unloaded = false }: Run) {
  const tests = [...Array(passed).fill("passed"), ...Array(failed).fill("failed"), ...Array(skipped).fill("skipped")];
  const assertionResults = tests.map((status) => ({ status, fullName: status, failureMessages: [] }));
  const files = [{ name: "a", message: "", status: failed > 0 ? "failed" : "passed", assertionResults }];
  if (unloaded) files.push({ name: "b", message: "no such module", status: "failed", assertionResults: [] });
  return {
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests: skipped,
    numTodoTests: 0,
    testResults: files,
  };
}
