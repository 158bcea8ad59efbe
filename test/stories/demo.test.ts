import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { unprivilegedUser } from "../../src/postgres/run-as.ts";
import { run } from "../cli/run.ts";
import { testPrograms } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";

const root = join(import.meta.dirname, "..", "..");
const { binDir, version } = await testPrograms();
let folder = "";

/** The bundle and a Node in a place that every user may read. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-demo-"));
  await chmod(folder, 0o755);
  await promisify(execFile)(process.execPath, [join(root, "scripts", "build.ts"), join(folder, "dist")]);
  await mkdir(join(folder, "bin"));
  await copyFile(join(root, "bin", "pgkit.js"), join(folder, "bin", "pgkit.js"));
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  await copyFile(process.execPath, join(folder, "node"));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** Starts the demo without a terminal, with a home and a folder for temporary files of its own. */
async function start(name: string, user?: { uid: number; gid: number }) {
  const home = join(folder, name);
  const temp = join(home, "tmp");
  await mkdir(temp, { recursive: true });
  for (const dir of [home, temp]) await (user === undefined ? chmod(dir, 0o777) : chown(dir, user.uid, user.gid));
  const child = spawn(join(folder, "node"), [join(folder, "bin", "pgkit.js"), "demo"], {
    cwd: home,
    env: { PATH: `${binDir}:/usr/bin:/bin`, HOME: home, TMPDIR: temp, NODE_DISABLE_COMPILE_CACHE: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    ...user,
  });
  const said = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => (said.stdout += chunk));
  child.stderr.on("data", (chunk) => (said.stderr += chunk));
  const ended = once(child, "close");
  const saying = (text: string) => eventually(() => expect(said.stderr).toContain(text));
  return { child, said, ended, saying, temp, repository: join(home, ".local", "share", "pgkit", "demo") };
}

it("tells its story to an ordinary user without a terminal, and leaves a repository in which all of it is true", {
  timeout: 180_000,
}, async () => {
  const demo = await start("story", await unprivilegedUser());
  expect(await demo.ended, demo.said.stderr).toEqual([0, null]);
  expect(await readdir(demo.temp)).toEqual([]);
  const { stdout, stderr } = demo.said;
  expect(stderr).toContain(`PostgreSQL ${version}`);
  expect(stderr.match(/^\d\. .*$/gm)).toHaveLength(8);
  expect(stderr).not.toMatch(/warning|undefined|NaN/);
  const proof = [...stdout.matchAll(/^(\w.*?) {2,}(\d+) +([0-9a-f]{24}) +([0-9a-f]{24})$/gm)].map(
    ([, ...cells]) => cells,
  );
  expect(proof.map(([database, rows]) => [database, rows])).toEqual([
    ["langflow", "25880"],
    ["n8n", "80440"],
    ["litellm", "104040"],
    ["litellm, one second before its disaster", "104290"],
  ]);
  for (const [, , before, after] of proof) expect(after).toBe(before);
  expectOneSecondBefore(stderr);

  const [, PGKIT_CONFIG = ""] = /export PGKIT_CONFIG=(\S+)/.exec(stdout) ?? [];
  const env = { PGKIT_CONFIG };
  const list = JSON.parse((await run(["list", "--json"], { env })).stdout);
  const names = list.backups.map(({ kind, database }: Record<string, string>) => database ?? kind);
  expect(names.sort()).toEqual(["base", "langflow", "litellm", "n8n"]);
  const typed = [...stdout.matchAll(/^ {2}pgkit (\w.*?)(?: +#.*)?$/gm)].map(([, line = ""]) => line.split(" "));
  expect(typed.map(([command]) => command)).toEqual(["list", "show", "verify", "restore"]);
  for (const args of typed) expect(await run(args, { env }), args.join(" ")).toMatchObject({ status: 0 });
  expect(await restoresIn(demo.repository)).toEqual([
    "shared ok",
    "shared/litellm ok",
    "shared/litellm ok",
    "shared/n8n ok",
  ]);
  expect(await readFile(join(demo.repository, "repository", "RESTORE.md"), "utf8")).toContain("pg_restore");
});

/** The restore went to one second before the statement, and another database was written to before and after it. */
function expectOneSecondBefore(told: string): void {
  const [, disaster = ""] = /^ {3}(\S+) {2}litellm: DELETE/m.exec(told) ?? [];
  const [, target = ""] = /restore litellm --to-time (\S+) --replace/.exec(told) ?? [];
  expect(Date.parse(disaster) - Date.parse(target)).toBe(1000);
  const [, last = ""] = /recovered on a scratch server to (\S+),/.exec(told) ?? [];
  expect(last && last <= target).toBe(true);
  const [, all, since] = /all (\d+) rows that it wrote are there, (\d+) of them since the disaster/.exec(told) ?? [];
  expect(Number(since)).toBeGreaterThan(0);
  expect(Number(all)).toBeGreaterThan(Number(since));
}

/** What the audit record says was restored, and how it ended. */
async function restoresIn(demo: string): Promise<string[]> {
  const audit = join(demo, "repository", "audit");
  const names = (await readdir(audit, { recursive: true })).filter((name) => name.endsWith("-2-end.json"));
  const records = await Promise.all(names.map(async (name) => JSON.parse(await readFile(join(audit, name), "utf8"))));
  return records.map(({ subject, result }) => `${subject} ${result}`).sort();
}

it("takes its server with it when it is stopped or killed, and the next run starts anew", {
  timeout: 180_000,
}, async () => {
  const stopped = await start("stopped");
  await eventually(() => expect(stopped.said.stderr).toContain("8. One database"), 120_000);
  stopped.child.kill("SIGTERM");
  expect(await stopped.ended).toEqual([130, null]);
  expect(stopped.said.stderr).toContain("pgkit: stopped by SIGTERM");
  expect(await readdir(stopped.temp)).toEqual([]);

  const killed = await start("stopped");
  await killed.saying("n8n");
  const [scratch = ""] = (await readdir(killed.temp)).filter((name) => name.startsWith("pgkit-scratch-"));
  const pid = Number((await readFile(join(killed.temp, scratch, "data", "postmaster.pid"), "utf8")).split("\n")[0]);
  expect(process.kill(pid, 0)).toBe(true);
  killed.child.kill("SIGKILL");
  await killed.ended;
  await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
  // Not to the end of the story: the next run removes what that one has left.
  const next = await start("stopped");
  await next.saying("n8n");
  expect(await readdir(next.temp)).not.toContain(scratch);
  next.child.kill("SIGTERM");
  await next.ended;
  expect(await readdir(next.temp)).toEqual([]);
});

it("leaves a folder alone that is not its own, and says where else it can go", async () => {
  const precious = join(folder, "precious");
  await mkdir(precious);
  await writeFile(join(precious, "pgkit.yaml"), "repository: /backups\n");
  const options = { env: { PATH: binDir } };
  expect(await run(["demo", precious], options)).toMatchObject({
    status: 21,
    stderr: expect.stringContaining(
      `${precious} is not empty, and no demo of pgkit made it\nhint: name another folder`,
    ),
  });
  expect(await readFile(join(precious, "pgkit.yaml"), "utf8")).toBe("repository: /backups\n");
  const file = join(precious, "pgkit.yaml", "below");
  expect(await run(["demo", file], options)).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/the demo cannot use the folder .*: ENOTDIR\nhint: name one that you may write to/),
  });
});
