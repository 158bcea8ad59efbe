import { readFile, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { fileStore } from "../../src/store/file.ts";
import { run } from "../cli/run.ts";
import { keysOf, repositoryIn, storeBackup } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { buildProgram, runProgram, type Started, startProgram } from "./process.ts";
import { configured, databasesOf, errorOf, filesIn, fingerprint, makeDatabase, newFolder, succeed } from "./support.ts";

let cluster: Cluster;
let program = "";

beforeAll(async () => {
  [cluster, program] = await Promise.all([startCluster(), buildProgram()]);
  await makeDatabase(cluster, "app", 2000);
  await makeDatabase(cluster, "other");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

function filesFor(repository: string, more: Record<string, unknown> = {}): Record<string, string> {
  return configured({ repository, url: cluster.url(), lease: { ttl: "12s" }, ...more });
}

/** A backup that waits in the middle for as long as the test wants: somebody else has locked its table. */
async function heldBackup(repository: string): Promise<{ started: Started; goOn: () => Promise<void> }> {
  const client = await cluster.connect("app");
  await client.query("BEGIN");
  await client.query("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE");
  const started = await startProgram(program, ["backup", "logical", "app", "--json"], { files: filesFor(repository) });
  await eventually(async () => {
    const waiting = await cluster.psql(
      "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'app'",
    );
    expect(Number(waiting)).toBeGreaterThan(0);
  });
  let held = true;
  const goOn = async () => {
    if (held) await client.end();
    held = false;
  };
  onTestFinished(goOn);
  return { started, goOn };
}

test("a second backup exits 11 and names who holds the lease, and the first is not disturbed", async () => {
  const repository = await newFolder();
  const { started, goOn } = await heldBackup(repository);
  const refused = await run(["backup", "logical", "--json"], { files: filesFor(repository) });
  expect(refused).toMatchObject({ status: 11, stdout: "" });
  const { error } = errorOf(refused);
  expect(error).toMatchObject({ code: "locked", hint: expect.stringContaining("wait for it to end") });
  const holder = `backup logical on ${hostname()}, process ${started.child.pid}`;
  for (const text of ["backup-shared", `file://${repository}`, holder]) expect(error.message).toContain(text);
  await goOn();
  expect(await started.ended).toMatchObject({ status: 0 });
  expect(await succeed(["verify"], { files: filesFor(repository) })).toMatchObject({ results: [{ ok: true }] });
  await succeed(["backup", "logical", "app"], { files: filesFor(repository) });
});

test("with lease.wait the second waits for the first, and both have their backups", async () => {
  const repository = await newFolder();
  const { started, goOn } = await heldBackup(repository);
  const files = filesFor(repository, { lease: { ttl: "12s", wait: "60s" } });
  const second = await startProgram(program, ["backup", "logical", "app"], { files });
  let said = "";
  second.child.stderr?.on("data", (chunk) => (said += chunk));
  await eventually(() => expect(said).toContain(`waiting for backup logical on ${hostname()}`));
  expect((await filesIn(repository)).filter((path) => path.startsWith("backups/"))).toEqual([]);
  await goOn();
  expect(await started.ended).toMatchObject({ status: 0 });
  expect(await second.ended).toMatchObject({ status: 0 });
  expect((await filesIn(repository)).filter((path) => path.startsWith("backups/"))).toHaveLength(2);
});

test("the lease of a killed run ends by itself, and not before its time", async () => {
  const repository = await newFolder();
  const { started, goOn } = await heldBackup(repository);
  const lease = join(repository, "leases", "backup-shared");
  started.child.kill("SIGKILL");
  await started.ended;
  await goOn();
  const [term = ""] = (await filesIn(lease)).filter((path) => /^\d+\.json$/.test(path));
  const aged = async (ms: number) => await utimes(join(lease, term), new Date(), new Date(Date.now() - ms));
  // 12 s and a sixth, as the error says; the folder's clock is ours.
  await aged(10_000);
  const refused = await run(["backup", "logical", "app", "--json"], { files: filesFor(repository) });
  expect(refused.status).toBe(11);
  expect(errorOf(refused).error.hint).toMatch(/if it was killed, the lease ends by itself at \d{4}-\d\d-\d\dT/);
  const files = filesFor(repository, { lease: { ttl: "12s", wait: "30s" } });
  const before = Date.now();
  expect(await runProgram(program, ["backup", "logical", "app"], { files })).toMatchObject({ status: 0 });
  expect(Date.now() - before).toBeGreaterThan(2_000);
});

test("a prune beside a backup removes what is old, and nothing of the backup under way", async () => {
  const repository = await newFolder();
  const made = await repositoryIn(fileStore({ path: repository }));
  await storeBackup(made, { id: "b-1", startedAt: "2026-01-01T00:00:00Z" });
  await storeBackup(made, { id: "b-2", startedAt: "2026-01-02T00:00:00Z" });
  const { started, goOn } = await heldBackup(repository);
  // However long it takes: its files look like those of a failed run from yesterday.
  const folder = join(repository, "files", "shared");
  for (const path of (await filesIn(folder)).filter((each) => each.startsWith("app-"))) {
    await utimes(join(folder, path), new Date(0), new Date(0));
  }
  const instances = { shared: { url: cluster.url(), retention: { logical: { keepLast: 1 } } } };
  const pruned = await succeed(["prune", "--yes"], { files: filesFor(repository, { instances }) });
  expect(pruned).toMatchObject({ repositories: [{ result: { removed: [{ id: "b-1" }], leftovers: [] } }] });
  await goOn();
  const ended = await started.ended;
  expect(ended).toMatchObject({ status: 0 });
  const [{ id }] = JSON.parse(ended.stdout).backups;
  expect(await succeed(["verify", id], { files: filesFor(repository) })).toMatchObject({ results: [{ id, ok: true }] });
  expect((await keysOf(fileStore({ path: repository }), "backups/")).map((key) => key.split("/")[2]).sort()).toEqual(
    [`${id}.json`, "b-2.json"].sort(),
  );
});

test("two prunes at once: one does it, the other is told, and both end well or with 11", async () => {
  const repository = await newFolder();
  const made = await repositoryIn(fileStore({ path: repository }));
  for (let day = 10; day < 30; day += 1) {
    await storeBackup(made, { id: `b-${day}`, startedAt: `2026-01-${day}T00:00:00Z` });
  }
  const instances = { shared: { url: cluster.url(), retention: { logical: { keepLast: 1 } } } };
  const files = filesFor(repository, { instances });
  const ends = await Promise.all([1, 2, 3].map(() => runProgram(program, ["prune", "--yes", "--json"], { files })));
  // 13: the plan was made before another had carried out its own.
  for (const { status, stderr } of ends) expect([0, 11, 13], stderr).toContain(status);
  expect(ends.map(({ status }) => status)).toContain(0);
  expect(await keysOf(fileStore({ path: repository }), "backups/")).toEqual(["backups/shared/b-29.json"]);
});

test("two restores at once do not disturb each other, also under names that are the same", async () => {
  const repository = await newFolder();
  const files = filesFor(repository);
  await succeed(["backup", "logical", "app", "other"], { files });
  const wanted = { app: await fingerprint(cluster, "app"), other: await fingerprint(cluster, "other") };
  const names = Array.from({ length: 6 }, (_, index) => `copy_${index}`);
  const restores = names.map((name, index) =>
    run(["restore", index % 2 === 0 ? "app" : "other", "--as", name, "--json"], { files }),
  );
  for (const ran of await Promise.all(restores)) expect(`${ran.status} ${ran.stderr}`).toMatch(/^0 /);
  for (const [index, name] of names.entries()) {
    expect(await fingerprint(cluster, name)).toBe(index % 2 === 0 ? wanted.app : wanted.other);
  }
  const same = await Promise.all([1, 2, 3].map(() => run(["restore", "app", "--as", "same", "--json"], { files })));
  expect(same.map(({ status }) => status).sort(), same.map(({ stderr }) => stderr).join("")).toEqual([0, 21, 21]);
  expect(await fingerprint(cluster, "same")).toBe(wanted.app);
  const left = (await databasesOf(cluster)).filter((name) => name.includes("_restoring_"));
  for (const name of left) await cluster.psql(`DROP DATABASE "${name}"`);
  expect(left.length).toBeLessThan(3);
});

test("two first backups into one new place make one repository", async () => {
  const repository = join(await newFolder(), "new");
  const files = (instance: string) => configured({ repository, instances: { [instance]: { url: cluster.url() } } });
  const ends = await Promise.all(
    ["a", "b", "c"].map((name) => run(["backup", "logical", "other"], { files: files(name) })),
  );
  for (const { status, stderr } of ends) expect(`${status} ${stderr}`).toMatch(/^0 /);
  const verified = await succeed(["verify"], { files: filesFor(repository) });
  expect(verified["results"]).toHaveLength(3);
  expect(JSON.parse(await readFile(join(repository, "pgkit.json"), "utf8"))).toMatchObject({ format: 1 });
});
