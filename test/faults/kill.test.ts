import { cp, readdir, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pLimit from "p-limit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listBackups } from "../../src/repo/backups.ts";
import { fileStore } from "../../src/store/file.ts";
import { keysOf, repositoryIn, storeBackup } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { buildProgram, runProgram, type Started, startProgram, untilAllEnded } from "./process.ts";
import { configured, databasesOf, filesIn, fingerprint, makeDatabase, newFolder, seeded, succeed } from "./support.ts";

let cluster: Cluster;
let program = "";
let wanted = "";
let newer = "";
/** With one backup of `app`. */
let backedUp = "";

beforeAll(async () => {
  [cluster, program] = await Promise.all([startCluster(), buildProgram()]);
  await makeDatabase(cluster, "app", 2000);
  wanted = await fingerprint(cluster, "app");
  backedUp = await newFolder();
  await succeed(["backup", "logical", "app"], { files: filesFor(backedUp) });
  await cluster.psql("INSERT INTO customers VALUES (0, 'x'); INSERT INTO orders VALUES (0, 0, 'newer')", "app");
  newer = await fingerprint(cluster, "app");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

function filesFor(repository: string): Record<string, string> {
  const retention = { logical: { keepLast: 1 } };
  return configured({
    ...{ repository, lease: { ttl: "12s" } },
    instances: { shared: { url: cluster.url(), retention } },
  });
}

type Signal = "SIGKILL" | "SIGINT";

interface Run {
  /** Its own folder, with what the command works on. */
  repository: string;
  /** Its own name, for databases. */
  name: string;
}

interface Interrupted {
  prepare: (run: Run) => Promise<void>;
  args: (run: Run) => string[];
  /** What must hold at once after `signal`. */
  check: (run: Run, signal: Signal, said: string) => Promise<void>;
  /** That the same command works after it, and leaves nothing of what was cut. */
  again: (run: Run, signal: Signal, said: string) => Promise<void>;
  /** Works on what the others do too, so one after the other. */
  alone?: true;
}

const commands: Record<string, Interrupted> = {
  "backup logical": {
    prepare: async () => undefined,
    args: () => ["backup", "logical", "app"],
    check: async ({ repository }, signal, said) => {
      const listed = await wholeBackups(repository, said);
      if (signal === "SIGKILL") return;
      const folders = new Set(
        (await keysOf(fileStore({ path: repository }), "files/")).map((key) => key.split("/")[2]),
      );
      expect([...folders], said).toEqual(listed);
      expect(
        (await filesIn(join(repository))).filter((path) => path.startsWith("~pgkit/")),
        said,
      ).toEqual([]);
    },
    again: async ({ repository }, signal, said) => {
      if (signal === "SIGKILL") await age(join(repository, "leases"), 60_000);
      await succeed(["backup", "logical", "app"], { files: filesFor(repository) });
      await age(join(repository, "files"), 2 * 86_400_000);
      await age(join(repository, "~pgkit"), 2 * 86_400_000);
      await succeed(["prune", "--yes"], { files: filesFor(repository) });
      expect(await wholeBackups(repository, said), said).toHaveLength(1);
      expect(
        new Set((await keysOf(fileStore({ path: repository }), "files/")).map((key) => key.split("/")[2])).size,
      ).toBe(1);
      expect(
        (await filesIn(repository)).filter((path) => path.startsWith("~pgkit/")),
        said,
      ).toEqual([]);
    },
  },
  "restore --as": {
    prepare: async ({ repository }) => await cp(backedUp, repository, { recursive: true }),
    args: ({ name }) => ["restore", "app", "--as", name],
    check: async ({ name }, signal, said) => {
      expect(await fingerprint(cluster, "app"), said).toBe(newer);
      const databases = await databasesOf(cluster);
      if (databases.includes(name)) expect(await fingerprint(cluster, name), said).toBe(wanted);
      await expectOnlyMarked(name, signal, said);
    },
    again: async ({ repository, name }, _, said) => {
      await cluster.psql(`DROP DATABASE IF EXISTS "${name}"`);
      await succeed(["restore", "app", "--as", name], { files: filesFor(repository) });
      expect(await fingerprint(cluster, name), said).toBe(wanted);
      expect(
        (await databasesOf(cluster)).filter((each) => each.startsWith(`${name}_`)),
        said,
      ).toEqual([]);
      await cluster.psql(`DROP DATABASE "${name}"`);
    },
  },
  "restore --replace": {
    alone: true,
    prepare: async ({ repository }) => await cp(backedUp, repository, { recursive: true }),
    args: () => ["restore", "app", "--replace", "--yes"],
    check: async (_, signal, said) => {
      const kept = (await databasesOf(cluster)).filter((name) => name.startsWith("app_before_"));
      expect(kept.length, said).toBeLessThan(2);
      expect(await fingerprint(cluster, "app"), said).toBe(kept.length === 1 ? wanted : newer);
      await expectOnlyMarked("app", signal, said);
      for (const name of kept) {
        expect(await fingerprint(cluster, name), said).toBe(newer);
        await cluster.psql("DROP DATABASE app");
        await cluster.psql(`ALTER DATABASE "${name}" RENAME TO app`);
      }
    },
    again: async ({ repository }, _, said) => {
      const { keptAs } = await succeed(["restore", "app", "--replace", "--yes"], { files: filesFor(repository) });
      expect(await fingerprint(cluster, "app"), said).toBe(wanted);
      expect(
        (await databasesOf(cluster)).filter((name) => name.startsWith("app_")),
        said,
      ).toEqual([keptAs]);
      await cluster.psql("DROP DATABASE app");
      await cluster.psql(`ALTER DATABASE "${keptAs}" RENAME TO app`);
    },
  },
  prune: {
    prepare: async ({ repository }) => {
      const made = await repositoryIn(fileStore({ path: repository }));
      for (let day = 10; day < 40; day += 1) {
        const startedAt = new Date(Date.UTC(2026, 0, day)).toISOString();
        await storeBackup(made, { id: `b-${day}`, startedAt });
      }
    },
    args: () => ["prune", "--yes"],
    check: async ({ repository }, _, said) => {
      expect(await wholeBackups(repository, said), said).toContain("b-39");
    },
    again: async ({ repository }, signal, said) => {
      if (signal === "SIGKILL") await age(join(repository, "leases"), 60_000);
      await age(join(repository, "files"), 2 * 86_400_000);
      await age(join(repository, "~pgkit"), 2 * 86_400_000);
      await succeed(["prune", "--yes"], { files: filesFor(repository) });
      expect(await wholeBackups(repository, said), said).toEqual(["b-39"]);
      expect(await keysOf(fileStore({ path: repository }), "files/"), said).toHaveLength(2);
      expect(
        (await filesIn(repository)).filter((path) => path.startsWith("~pgkit/")),
        said,
      ).toEqual([]);
    },
  },
};

const runsEach = 13;

describe.each(Object.entries(commands))("%s", (name, command) => {
  test.each(["SIGKILL", "SIGINT"] as const)(
    "at any moment: %s",
    async (signal) => {
      let wholeMs = await durationOf(command, `${name} ${signal}`);
      const dice = seeded(name.length * 1000 + signal.length);
      const limit = pLimit(command.alone ? 1 : 2);
      const moments = Array.from({ length: runsEach }, () => 0.1 + dice() * 0.9);
      const interruptAt = async (moment: number, index: number) => {
        const outcome = await interrupt(command, signal, moment * wholeMs, `${slug(name)}_${signal}_${index}`);
        // It was done by then: the machine has become quicker.
        if (outcome.status === 0) wholeMs *= 0.8;
        return outcome;
      };
      const outcomes = await Promise.all(moments.map((moment, index) => limit(interruptAt, moment, index)));
      // Else none was interrupted in its work.
      expect(outcomes.filter(({ status }) => status !== 0).length).toBeGreaterThan(runsEach / 3);
    },
    180_000,
  );
});

function slug(name: string): string {
  return name.replaceAll(/[^a-z]+/g, "_");
}

/** How long the command takes when nobody interrupts it, the second time. */
async function durationOf(command: Interrupted, name: string): Promise<number> {
  let took = 0;
  for (const nth of [1, 2]) {
    const run = { repository: await newFolder(), name: slug(`${name}_whole_${nth}`) };
    await command.prepare(run);
    const before = performance.now();
    const { status, stderr } = await runProgram(program, command.args(run), { files: filesFor(run.repository) });
    took = performance.now() - before;
    expect(`${status} ${stderr}`).toMatch(/^0 /);
    await command.check(run, "SIGKILL", "whole");
    if ((await databasesOf(cluster)).includes(run.name)) await cluster.psql(`DROP DATABASE "${run.name}"`);
  }
  return took;
}

async function interrupt(command: Interrupted, signal: Signal, afterMs: number, name: string) {
  const run = { repository: await newFolder(), name: name.toLowerCase() };
  await command.prepare(run);
  const started = await startProgram(program, command.args(run), { files: filesFor(run.repository) });
  // The moment itself is what is tried, so there is no condition to wait for.
  await Promise.race([delay(afterMs), started.ended]);
  const before = performance.now();
  started.child.kill(signal);
  const { status, stderr } = await started.ended;
  const said = `${name} after ${Math.round(afterMs)} ms: ${status} ${stderr}`;
  expect([0, signal === "SIGINT" ? 130 : 137], said).toContain(status);
  if (signal === "SIGINT") await expectTidyEnd(started, performance.now() - before, stderr, said);
  // What it has started ends by itself, as its input and output are gone.
  await untilAllEnded(started);
  await eventually(async () => {
    const sessions = await cluster.psql(`SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgkit%'
      AND (datname = '${run.name}' OR datname LIKE '${run.name}\\_%')`);
    expect(sessions).toBe("0");
  });
  await command.check(run, signal, said);
  await command.again(run, signal, said);
  return { status };
}

/** It ends soon, says so in a line, and leaves neither a program nor a temporary file. */
async function expectTidyEnd(started: Started, tookMs: number, stderr: string, said: string): Promise<void> {
  expect(tookMs, said).toBeLessThan(8_000);
  expect(await readdir(started.tmp), said).toEqual([]);
  if (/stopped by/.test(stderr)) expect(stderr, said).toMatch(/pgkit: stopped by SIGINT\n$/);
  expect(stderr, said).not.toMatch(/^\s+at |this is a bug/m);
  await untilAllEnded(started, 3_000);
}

/** The ids of the backups, each of which has every byte of its files. */
async function wholeBackups(folder: string, said: string): Promise<string[]> {
  if ((await filesIn(folder)).every((path) => path !== "pgkit.json")) return [];
  const store = fileStore({ path: folder });
  const { backups, unreadable } = await listBackups(await repositoryIn(store));
  expect(unreadable, said).toEqual([]);
  const present = new Map<string, number>();
  for await (const { key, bytes } of store.list("files/")) present.set(key, bytes);
  for (const { key, storedBytes } of backups.flatMap(({ files }) => files.flatMap(({ volumes }) => volumes)))
    expect(present.get(key), said).toBe(storedBytes);
  return backups.map(({ id }) => id);
}

/** Of what was cut nothing is left after SIGINT, and after SIGKILL nothing but what the next restore knows and drops. */
async function expectOnlyMarked(name: string, signal: Signal, said: string): Promise<void> {
  const left = await cluster.psql(
    `SELECT datname, EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setconfig::text LIKE '%pgkit.restoring=%')
     FROM pg_database d WHERE datname LIKE '${name}\\_restoring\\_%'`,
  );
  if (signal === "SIGINT") expect(left, said).toBe("");
  else expect(left, said).toMatch(/^(\S+\|t\n?)*$/);
}

/** Lets time pass for the files of a folder. */
async function age(folder: string, ms: number): Promise<void> {
  const then = (Date.now() - ms) / 1000;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    },
  );
  for (const entry of entries) if (entry.isFile()) await utimes(join(entry.parentPath, entry.name), then, then);
}
