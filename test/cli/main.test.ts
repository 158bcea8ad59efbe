import { expect, test } from "vitest";
import { commands } from "../../src/cli/commands.ts";
import { errorCodes, PgkitError } from "../../src/lib/errors.ts";
import { fakeClock } from "../support/fake-clock.ts";
import { run, testCommand } from "./run.ts";

const failing = (error: unknown) => [testCommand(async () => Promise.reject(error))];

test("the version is that of the package", async () => {
  expect(await run(["--version"])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
});

test.each([
  [["schdule"], "unknown command 'schdule'", "did you mean schedule?"],
  [["schedule", "--jsn"], "unknown option '--jsn'", "did you mean --json?"],
  [["schedule", "extra"], "too many arguments", "pgkit --help"],
  [["completion"], "missing required argument 'SHELL'", "pgkit --help"],
  [["completion", "tcsh"], "bash, zsh, fish", ""],
  [["--config"], "argument missing", ""],
  [["backup"], "the command is not complete", "one of: pgkit backup logical"],
  [["backup", "logicl"], "unknown command 'logicl'", "did you mean logical?"],
])("%j is refused with exit 2 and what was meant", async (args, message, hint) => {
  const ran = await run(args);
  expect(ran.status).toBe(2);
  expect(ran.stdout).toBe("");
  expect(ran.stderr).toMatch(/^pgkit: [^\n]*\nhint: [^\n]*\n$/);
  expect(ran.stderr).toContain(message);
  expect(ran.stderr).toContain(hint);
});

test("the value of an unknown flag is not repeated", async () => {
  const ran = await run(["schedule", "--password=hunter22"]);
  expect(ran.stderr).toContain("unknown option '--password'");
  expect(ran.stderr).not.toContain("hunter22");
});

test("every command's help has a summary, its flags and examples", async () => {
  for (const { name } of commands) {
    const ran = await run([...name.split(" "), "--help"]);
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toContain(`Usage: pgkit ${name}`);
    expect(ran.stdout).toContain("--repository <url>");
    expect(ran.stdout).toMatch(/Examples:\n {2}\S/);
  }
});

test("no command at all is answered with the help", async () => {
  expect(await run([])).toMatchObject({ status: 0, stdout: expect.stringContaining("Commands:") });
});

test.each(Object.entries(errorCodes).filter(([code]) => code !== "bug"))("%s exits with %o", async (code, { exit }) => {
  const error = new PgkitError(code as keyof typeof errorCodes, "it went wrong", { hint: "try again" });
  const ran = await run(["try"], { commands: failing(error) });
  expect(ran).toMatchObject({ status: exit, stdout: "", stderr: "pgkit: it went wrong\nhint: try again\n" });
});

test("with --json an error is one document on stderr", async () => {
  const error = new PgkitError("locked", "another run holds it", { hint: "wait" });
  const ran = await run(["try", "--json"], { commands: failing(error) });
  expect(ran).toMatchObject({ status: 11, stdout: "" });
  expect(JSON.parse(ran.stderr)).toEqual({ error: { code: "locked", message: "another run holds it", hint: "wait" } });
  const typo = await run(["tri", "--json"], { commands: failing(error) });
  expect(JSON.parse(typo.stderr)).toMatchObject({ error: { code: "usage", message: "unknown command 'tri'" } });
});

test("--verbose adds the causes", async () => {
  const error = new PgkitError("store-failed", "cut", { cause: new Error("reset", { cause: new Error("timeout") }) });
  const ran = await run(["try", "--verbose"], { commands: failing(error) });
  expect(ran.stderr).toBe("pgkit: cut\ncause: Error: reset\ncause: Error: timeout\n");
  expect((await run(["try"], { commands: failing(error) })).stderr).toBe("pgkit: cut\n");
});

test("a bug prints its stack and exits with 1", async () => {
  const ran = await run(["try"], { commands: failing(new TypeError("x is not a function")) });
  expect(ran.status).toBe(1);
  expect(ran.stderr).toMatch(/bug in pgkit: TypeError: x is not a function\n {4}at /);
  const json = await run(["try", "--json"], { commands: failing(new TypeError("x is not a function")) });
  expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: "bug", stack: expect.stringContaining("at ") } });
});

test("a command's own status is the exit status", async () => {
  expect(await run(["try"], { commands: [testCommand(async () => 3)] })).toMatchObject({ status: 3, stderr: "" });
});

test("one document is printed with --json: dates in UTC, big numbers whole, nothing for what is absent", async () => {
  const command = testCommand(async ({ out }) => {
    const json = { at: new Date("2026-05-02T02:30:00.999Z"), bytes: 12n, huge: 2n ** 64n, gone: undefined, none: null };
    out.result({ json, text: "for people" });
    return 0;
  });
  const ran = await run(["try", "--json"], { commands: [command] });
  expect(JSON.parse(ran.stdout)).toEqual({
    at: "2026-05-02T02:30:00Z",
    bytes: 12,
    huge: "18446744073709551616",
    none: null,
  });
  expect((await run(["try"], { commands: [command] })).stdout).toBe("for people\n");
});

test("a signal cancels the run with 130, a second one ends it at once", async () => {
  let signal: (name: string) => void = () => undefined;
  const command = testCommand(async (context) => {
    signal("SIGTERM");
    expect(context.signal.aborted).toBe(true);
    signal("SIGTERM");
    // What a killed program says is a consequence, not the reason.
    throw new PgkitError("tool-failed", "pg_dump was killed");
  });
  const onStart = (outside: { signal(name: string): void }) => {
    signal = outside.signal;
  };
  const ran = await run(["try"], { commands: [command], onStart });
  expect(ran).toMatchObject({ status: 130, stderr: "pgkit: stopped by SIGTERM\n", exits: [130] });
});

test("what would destroy something is refused without --yes where nobody can be asked", async () => {
  let destroyed = 0;
  const command = testCommand(
    async (context) => {
      await context.confirm("removes 3 backups");
      destroyed += 1;
      return 0;
    },
    { options: ["yes", "dryRun"] },
  );
  const refused = await run(["try"], { commands: [command] });
  expect(refused).toMatchObject({ status: 2 });
  expect(refused.stderr).toContain("this removes 3 backups, and there is no terminal to ask");
  expect(refused.stderr).toContain("--yes");
  expect(destroyed).toBe(0);
  expect((await run(["try", "--yes"], { commands: [command] })).status).toBe(0);
  expect((await run(["try", "--dry-run"], { commands: [command] })).status).toBe(0);
  expect(destroyed).toBe(2);
});

test.each([
  ["y", 0, "done\n"],
  ["n", 130, ""],
  ["\x03", 130, ""],
])("on a terminal it is asked for, and %j is understood", async (key, status, stdout) => {
  const command = testCommand(async (context) => {
    await context.confirm("removes 3 backups");
    context.out.raw("done");
    return 0;
  });
  const ran = await run(["try"], { commands: [command], isTTY: true, keys: key });
  expect(ran.stderr).toContain("This removes 3 backups. Go on?");
  expect(ran).toMatchObject({ status, stdout });
});

test("a time without an offset is read in --time-zone, and that is said aloud", async () => {
  const command = testCommand(async (context) => {
    context.out.raw(context.time("2026-07-01 02:00").exact);
    return 0;
  });
  const utc = await run(["try"], { commands: [command] });
  expect(utc.stdout).toBe("2026-07-01T02:00:00Z\n");
  expect(utc.stderr).toContain("is read in the time zone UTC: 2026-07-01T02:00:00Z");
  const berlin = await run(["try", "--time-zone", "Europe/Berlin"], { commands: [command] });
  expect(berlin.stdout).toBe("2026-07-01T00:00:00Z\n");
  expect(berlin.stderr).toContain("Europe/Berlin: 2026-07-01T00:00:00Z (2026-07-01 02:00:00 +02:00)");
  const wrong = testCommand(async (context) => context.time("noon").time.getTime());
  expect(await run(["try"], { commands: [wrong] })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("the time 'noon' must be a time such as"),
  });
});

test("under --dry-run the store refuses every write", async () => {
  const command = testCommand(
    async (context) => {
      const [repository] = context.config.repositories;
      if (repository === undefined) throw new Error("no repository");
      const store = await context.openStore(repository);
      await store.put("a", new Uint8Array(1));
      return 0;
    },
    { options: ["dryRun"] },
  );
  const args = ["try", "--repository", "./backups"];
  expect(await run(args, { commands: [command] })).toMatchObject({ status: 0 });
  expect(await run([...args, "--dry-run"], { commands: [command] })).toMatchObject({ status: 1 });
});

const scheduled =
  "instances: { a: { url: 'postgresql://u@h/d', schedule: { logical: '0 2 * * *', timeZone: Europe/Berlin } } }";

test("schedule shows previous, next and overdue runs, out of an empty repository too", async () => {
  const files = { "pgkit.yaml": scheduled };
  const clock = fakeClock("2026-05-02T12:00:00Z");
  const ran = await run(["schedule", "--json"], { files, clock });
  expect(ran).toMatchObject({ status: 0, stderr: "" });
  expect(JSON.parse(ran.stdout)).toEqual({
    now: "2026-05-02T12:00:00Z",
    runs: [
      {
        instance: "a",
        kind: "logical",
        cron: "0 2 * * *",
        timeZone: "Europe/Berlin",
        previous: "2026-05-02T00:00:00Z",
        next: "2026-05-03T00:00:00Z",
        overdueSince: "2026-05-02T00:00:00Z",
      },
    ],
  });
  const text = await run(["schedule"], { files, clock });
  expect(text.stdout.split("\n")[1]).toMatch(
    /^a {9}logical {2}0 2 \* \* \* {2}2026-05-02 02:00:00 \+02:00 {2}2026-05-03 02:00:00 \+02:00 {2}never {9}for 12h$/,
  );
});
