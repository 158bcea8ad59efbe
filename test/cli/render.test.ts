import { PassThrough } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { eventReader } from "../../src/cli/events.ts";
import { createRenderer, type RenderOptions } from "../../src/cli/render.ts";
import { harmless, table } from "../../src/cli/text.ts";
import { PgkitError } from "../../src/lib/errors.ts";
import type { ProgressEvent } from "../../src/lib/report.ts";
import { secretVault } from "../../src/lib/secret.ts";
import { fakeClock } from "../support/fake-clock.ts";

async function renderer(options: Partial<RenderOptions> & { isTTY?: boolean } = {}) {
  const stream = () => Object.assign(new PassThrough(), { isTTY: options.isTTY ?? false, columns: 120 });
  const streams = { stdin: stream(), stdout: stream(), stderr: stream() };
  const clock = fakeClock();
  const rest = { streams, clock, vault: secretVault(), json: false, quiet: false, verbose: false };
  const made = await createRenderer({ ...rest, progress: "auto", ...options });
  return {
    ...made,
    clock,
    stderr: () => String(streams.stderr.read() ?? ""),
    stdout: () => String(streams.stdout.read() ?? ""),
  };
}

const gibibyte = 1024 ** 3;
const backup: ProgressEvent[] = [
  { type: "start", task: "backup shared/a", totalBytes: 4 * gibibyte },
  { type: "progress", task: "backup shared/a", bytes: gibibyte, phase: "dump" },
  { type: "note", message: "using pg_dump 17" },
  { type: "warning", message: "not encrypted", hint: "set encryption.recipients" },
  { type: "done", task: "backup shared/a", bytes: 4 * gibibyte, seconds: 61 },
];

test("without a terminal progress is plain lines, of a task at most one in ten seconds", async () => {
  const { report, clock, stderr } = await renderer();
  report({ type: "start", task: "backup shared/a", totalBytes: 4 * gibibyte });
  for (let second = 1; second <= 30; second += 1) {
    await clock.advance(1000);
    report({ type: "progress", task: "backup shared/a", bytes: (second * gibibyte) / 10, phase: "dump" });
  }
  report({ type: "done", task: "backup shared/a", bytes: 4 * gibibyte, seconds: 40 });
  expect(stderr().split("\n")).toEqual([
    "backup shared/a: started, 4.0 GiB",
    "backup shared/a: dump, 1.0 GiB of 4.0 GiB (25%), 102 MiB/s, 30 s left",
    "backup shared/a: dump, 2.0 GiB of 4.0 GiB (50%), 102 MiB/s, 20 s left",
    "backup shared/a: dump, 3.0 GiB of 4.0 GiB (75%), 102 MiB/s, 10 s left",
    "backup shared/a: done, 4.0 GiB in 40 s",
    "",
  ]);
});

test("progress past its estimate has no percentage", async () => {
  const { report, clock, stderr } = await renderer();
  report({ type: "start", task: "t", totalBytes: 1024 });
  await clock.advance(10_000);
  report({ type: "progress", task: "t", bytes: 10_240 });
  expect(stderr()).toContain("t: 10.0 KiB, 1.0 KiB/s\n");
});

test("a failed task is told with its hint", async () => {
  const { report, stderr } = await renderer();
  report({ type: "failed", task: "backup shared/a", message: "disk full", hint: "free some" });
  expect(stderr()).toBe("backup shared/a: failed: disk full\nhint: free some\n");
});

test("on a terminal a bar has rate and time left, and nothing is left of it", async () => {
  const { report, finish, clock, stderr } = await renderer({ isTTY: true });
  report({ type: "start", task: "backup shared/a", totalBytes: 4 * gibibyte });
  report({ type: "start", task: "backup shared/b", totalBytes: undefined });
  await clock.advance(10_000);
  report({ type: "progress", task: "backup shared/a", bytes: gibibyte });
  report({ type: "progress", task: "backup shared/b", bytes: 10 * 1024 ** 2 });
  report({ type: "done", task: "backup shared/b", bytes: gibibyte, seconds: 10 });
  report({ type: "done", task: "backup shared/a", bytes: 4 * gibibyte, seconds: 40 });
  finish();
  const raw = stderr();
  const drawn = stripVTControlCharacters(raw);
  expect(drawn).toMatch(/backup shared\/a .*1\.0 GiB of 4\.0 GiB \(25%\), 102 MiB\/s, 30 s left/);
  expect(drawn).toContain("backup shared/a: done, 4.0 GiB in 40 s\n");
  expect(drawn).toContain("backup shared/b: done, 1.0 GiB in 10 s\n");
  // The lines of the bars are wiped, wrapping is on again, and the cursor was never hidden.
  expect(raw).toMatch(/\[0J\S*$/);
  expect(raw.lastIndexOf("[?7h")).toBeGreaterThan(raw.lastIndexOf("[?7l"));
  expect(raw).not.toContain("[?25l");
});

test("--quiet draws nothing", async () => {
  for (const isTTY of [true, false]) {
    const { report, stderr } = await renderer({ quiet: true, isTTY, progress: "bar" });
    for (const event of backup) report(event);
    expect(stderr()).toBe("");
  }
});

test("--progress json gives every event as one line of JSON with its time", async () => {
  const { report, error, stderr } = await renderer({ progress: "json" });
  for (const event of backup) report(event);
  error(new Error("lost"));
  const lines = stderr()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.slice(0, -1)).toEqual(backup.map((event) => ({ ...event, time: "2026-11-21T02:00:00Z" })));
  expect(lines.at(-1)).toMatchObject({ error: { code: "bug" } });
});

test("--json keeps stderr for warnings and the error, each a line of JSON", async () => {
  const { report, stderr } = await renderer({ json: true, isTTY: true });
  for (const event of backup) report(event);
  expect(JSON.parse(stderr())).toMatchObject({ type: "warning", message: "not encrypted" });
});

test("names that would drive the terminal are shown instead", async () => {
  const name = "a\x1b[2Jb\u202ec\rd\u009be";
  const shown = "a\\x1b[2Jb\\u{202e}c\\x0dd\\x9be";
  for (const isTTY of [true, false]) {
    const { report, out, finish, stdout, stderr } = await renderer({ isTTY });
    report({ type: "start", task: name });
    report({ type: "progress", task: name, bytes: 1, phase: name });
    report({ type: "note", message: name });
    report({ type: "done", task: name, seconds: 1, summary: name });
    out.result({ json: {}, text: name });
    finish();
    expect(stdout()).toBe(`${shown}\n`);
    const drawn = stderr();
    expect(drawn).toContain(shown);
    for (const evil of ["\x1b[2J", "\u202e", "\rd", "\u009b"]) expect(drawn).not.toContain(evil);
  }
});

test("a table is aligned, also with wide letters, and each row stays one line", () => {
  const text = table(
    [{ title: "DATABASE" }, { title: "BYTES", align: "right" }],
    [
      ['we"ird-Ä', "5"],
      ["数据库", "1234"],
      ["two\nlines", "12"],
    ],
  );
  expect(text.split("\n")).toEqual([
    "DATABASE    BYTES",
    'we"ird-Ä        5',
    "数据库       1234",
    "two\\nlines     12",
  ]);
});

test("ordinary text is left as it is", () => {
  expect(harmless("Ä 数据库 😀 tab\tline\n")).toBe("Ä 数据库 😀 tab\tline\n");
});

test("what one pgkit writes by --progress events another one reports, prints and fails by, without a secret", async () => {
  const vault = secretVault();
  const password = 'top:secret "1"';
  vault.keep(password);
  const there = await renderer({ progress: "events", vault });
  there.report({ type: "start", task: "t", totalBytes: 100 });
  for (let bytes = 1; bytes <= 30; bytes += 1) {
    await there.clock.advance(100);
    there.report({ type: "progress", task: "t", bytes });
  }
  there.report({ type: "note", message: `with ${password}` });
  const long = Array.from({ length: 3000 }, (_, id) => `b-${id} "é"`);
  there.out.result({ json: { backups: long }, text: () => `made ${password}` });
  there.error(new PgkitError("locked", `another run with ${password}`, { hint: "wait" }));
  expect(there.stderr()).toBe("");
  const lines = there.stdout().trimEnd().split("\n");
  expect(Math.max(...lines.map((line) => Buffer.byteLength(line)))).toBeLessThan(16 * 1024);
  const told: ProgressEvent[] = [];
  const reader = eventReader((event) => told.push(event));
  for (const line of lines) reader.take(line, "pod");
  expect(told.filter(({ type }) => type === "progress")).toMatchObject([{ bytes: 1 }, { bytes: 11 }, { bytes: 21 }]);
  expect(told.at(-1)).toMatchObject({ type: "note", message: "with ***" });
  expect(reader.result()).toEqual({ json: { backups: long }, text: "made ***" });
  expect(reader.error()).toMatchObject({
    code: "locked",
    message: "another run with ***",
    hint: "wait",
    exitStatus: 11,
  });
  // A Pod that takes the place of another tells its own story.
  reader.take("hello", "another pod");
  expect([told.at(-2), reader.result(), reader.error(), reader.lastWords()]).toEqual([
    { type: "failed", task: "t", message: "its Pod has ended" },
    undefined,
    undefined,
    "hello",
  ]);
});
