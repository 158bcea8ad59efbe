import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, expect, it } from "vitest";
import { buildProgram, runProgram, type StartOptions, startProgram, untilAllEnded } from "../faults/process.ts";
import type { Cluster } from "../support/cluster.ts";
import { type Pitr, startPitr } from "./pitr-support.ts";

const identity = await generateIdentity();
const recipient = await identityToRecipient(identity);
let pitr: Pitr;
let cluster: Cluster;
let program = "";
let folder = "";
let moment = "";
let options: StartOptions;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-kill-"));
  await chmod(folder, 0o711);
  program = await buildProgram();
  const keys = ["encryption:", `  recipients: [${recipient}]`, "  identityFile: age.key"];
  // Pages are not in the WAL as a whole: recovery without the others' files has the more to pass over.
  pitr = await startPitr({ settings: { full_page_writes: "off" } }, keys);
  ({ cluster } = pitr);
  for (const name of ["app", "other"]) {
    await cluster.psql(`CREATE DATABASE ${name}`);
    await cluster.psql(
      "CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 60000) g; CREATE INDEX ON t (b)",
      name,
    );
  }
  await pitr.backUp();
  await cluster.psql("CHECKPOINT");
  for (const name of ["app", "other"]) {
    await cluster.psql("UPDATE t SET b = 'changed' WHERE a % 10 = 0", name);
    await cluster.psql("VACUUM t", name);
  }
  ({ after: moment } = await pitr.write("mark"));
  await cluster.psql("DELETE FROM t", "app");
  await pitr.write("after");
  await pitr.storeAll();
  options = { files: { "pgkit.yaml": pitr.pgkit.yaml, "age.key": `${identity}\n` }, env: { TMPDIR: folder } };
}, 300_000);

afterAll(async () => {
  await pitr?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function databases(): Promise<string[]> {
  return (await cluster.psql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")).split("\n");
}

async function state(database: string): Promise<string> {
  return cluster.psql("SELECT count(*), count(*) FILTER (WHERE b = 'changed') FROM t", database);
}

it("killed at any moment the live instance is unharmed, and the next run leaves nothing of it", {
  timeout: 480_000,
}, async () => {
  const args = ["restore", "app", "--to-time", moment, "--as", "back"];
  const startedMs = performance.now();
  const whole = await runProgram(program, args, options);
  const wholeMs = performance.now() - startedMs;
  expect(whole.status, whole.stderr).toBe(0);
  expect(whole.stderr).not.toContain("once more");
  await cluster.psql("DROP DATABASE back");
  // A fixed seed: the same parts of a run's time whenever this is tried.
  let seed = 20261121;
  let killed = 0;
  const leftOvers = new Set<string>();
  for (let round = 0; round < 8; round++) {
    seed = (seed * 48271) % 2147483647;
    const started = await startProgram(program, args, options);
    await delay(wholeMs * (0.1 + (0.9 * seed) / 2147483647));
    started.child.kill("SIGKILL");
    const { status, stderr } = await started.ended;
    await untilAllEnded(started);
    if (status === 137) killed++;
    else expect(status, stderr).toBe(0);
    const there = await databases();
    for (const name of await readdir(folder)) leftOvers.add(name.replace(/-[^-]*$/, ""));
    if (there.includes("back")) {
      // The one step that gives it its name had been taken: then it is whole.
      expect(await state("back")).toBe("60000|6000");
      await cluster.psql("DROP DATABASE back");
    }
    expect(there.filter((name) => !/^back/.test(name))).toEqual(["app", "other", "postgres"]);
    expect([await state("app"), await state("other")]).toEqual(["0|0", "60000|6000"]);
  }
  expect(killed).toBeGreaterThan(4);
  expect([...leftOvers]).toContain("pgkit-scratch");
  const last = await runProgram(program, args, options);
  expect(last.status, last.stderr).toBe(0);
  expect(await state("back")).toBe("60000|6000");
  expect(await databases()).toEqual(["app", "back", "other", "postgres"]);
  expect(await readdir(folder)).toEqual([]);
});
