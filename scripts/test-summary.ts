/**
 * Adds up runs of vitest and says it in one line, the last. Usage: test-summary.ts RUN..., where RUN.json is of vitest's
 * JSON reporter and RUN.status holds its exit status. Fails when a test failed or was skipped, or a run had none.
 */
import { existsSync, readFileSync } from "node:fs";

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { status: string; fullName: string; failureMessages: string[] }[];
  }[];
}

const total = { passed: 0, failed: 0, skipped: 0 };
for (const run of process.argv.slice(2)) {
  const counted = countOf(run);
  total.passed += counted.passed;
  total.failed += counted.failed;
  total.skipped += counted.skipped;
}
for (const run of process.argv.slice(2)) for (const line of failuresOf(run)) process.stdout.write(`${line}\n`);
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
process.exitCode = total.passed > 0 && total.failed === 0 && total.skipped === 0 ? 0 : 1;

function countOf(run: string): typeof total {
  const exitStatus = Number(readFileSync(`${run}.status`, "utf8"));
  // A run that died before it could tell counts as one failure: it must not look like an empty one.
  if (!existsSync(`${run}.json`)) return { passed: 0, failed: 1, skipped: 0 };
  const report: Report = JSON.parse(readFileSync(`${run}.json`, "utf8"));
  const passed = report.numPassedTests;
  const skipped = report.numPendingTests + report.numTodoTests;
  const failed = report.numFailedTests + filesThatDidNotLoad(report);
  // Without tests, or with an error outside of every test: vitest's exit status knows, its numbers do not.
  return { passed, skipped, failed: failed === 0 && (exitStatus !== 0 || passed === 0) ? 1 : failed };
}

/** What failed and why, said again at the end: of a long log often only that is at hand. */
function failuresOf(run: string): string[] {
  if (!existsSync(`${run}.json`)) return [`FAILED ${run}: it ended without a report`];
  const report: Report = JSON.parse(readFileSync(`${run}.json`, "utf8"));
  return report.testResults
    .filter((file) => file.status === "failed")
    .flatMap((file) => {
      const failed = file.assertionResults.filter((test) => test.status === "failed");
      if (failed.length === 0) return [`FAILED ${file.name}: ${file.message}`];
      return failed.map(
        (test) => `FAILED ${file.name}: ${test.fullName}\n${test.failureMessages.join("\n").slice(0, 1500)}`,
      );
    });
}

function filesThatDidNotLoad(report: Report): number {
  return report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
  ).length;
}
