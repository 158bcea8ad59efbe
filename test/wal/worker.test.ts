import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { findWal } from "../../src/repo/wal.ts";
import { type Fault, faultyStore } from "../../src/store/faulty.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { archiveIn } from "../../src/wal/push.ts";
import { pushRequested } from "../../src/wal/push-request.ts";
import { runPushWorker } from "../../src/wal/push-worker.ts";
import { openSpool, type Spool } from "../../src/wal/spool.ts";
import { claimWorker, workerLives } from "../../src/wal/worker-claim.ts";
import { repositoryIn } from "../repo/support.ts";
import { eventually } from "../support/eventually.ts";
import { destination, type MadeServer, madeServer, nameOf, systemId } from "./made.ts";

let server: MadeServer;
let spool: Spool;
let repository: Repository;
let stopping: AbortController;

beforeEach(async () => {
  server = await madeServer();
  spool = await openSpool(server.dataDir, "pg_wal/pgkit");
  repository = await repositoryIn(memoryStore());
  stopping = new AbortController();
});
afterEach(async () => {
  stopping.abort();
  await rm(server.dataDir, { recursive: true, force: true });
});

function work(repositories: readonly Repository[] = [repository], idleMs = 60_000, mark = "1"): Promise<boolean> {
  const archives = repositories.map((each) => archiveIn(destination(each), server));
  return runPushWorker({ ...server, spool, archives, parallel: 3, idleMs, mark, signal: stopping.signal });
}

const notes = async (ending: string) => {
  const names = (await readdir(spool.folder)).filter((name) => name.endsWith(ending) && !name.startsWith("."));
  return names.map((name) => name.slice(0, -ending.length)).sort();
};
const isStored = async (name: string, where = repository) =>
  (await findWal(where, { instance: "main", systemId }, name)) !== undefined;

test("all that is ready is stored and noted, and a note goes when PostgreSQL has taken it", async () => {
  const names = Array.from({ length: 7 }, (_, index) => nameOf(index + 1));
  for (const name of names) await server.ready(name);
  const worker = work();
  await eventually(async () => expect(await notes(".ok")).toEqual(names));
  for (const name of names) expect(await isStored(name)).toBe(true);
  await server.done(nameOf(1));
  await eventually(async () => expect(await notes(".ok")).not.toContain(nameOf(1)));
  await server.ready(nameOf(8));
  await eventually(async () => expect(await notes(".ok")).toContain(nameOf(8)));
  stopping.abort();
  expect(await worker).toBe(true);
  expect(await workerLives(spool.folder, "push", systemClock)).toBe(false);
});

test("what it stores is stored when it says so, and archive_command waits for that", async () => {
  await server.ready(nameOf(1));
  await server.ready(nameOf(2));
  let started = 0;
  const archives = [archiveIn(destination(repository), server)];
  const startWorker = () => {
    started += 1;
    work();
  };
  const request = { ...server, spool, archives, startWorker, mark: "1", boundMs: 20_000, signal: stopping.signal };
  await pushRequested(request, join(server.dataDir, "pg_wal", nameOf(1)), nameOf(1));
  expect(await isStored(nameOf(1))).toBe(true);
  expect(started).toBe(1);
  await server.done(nameOf(1));
  await eventually(async () => expect(await isStored(nameOf(2))).toBe(true));
});

test("of several workers one works, and the others say so", async () => {
  await server.ready(nameOf(1));
  const workers = Array.from({ length: 6 }, () => work([repository], 300));
  const worked = (await Promise.all(workers)).filter(Boolean);
  expect(worked.length).toBeLessThanOrEqual(1);
  if (worked.length === 0) expect(await work([repository], 100)).toBe(true);
  expect(await isStored(nameOf(1))).toBe(true);
});

test("a worker that was killed, at whatever moment, or is stopped for a minute, is replaced", async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, "claim-child.ts"), spool.folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  expect(await claimWorker(spool.folder, "push", systemClock)).toBeUndefined();
  child.kill("SIGSTOP");
  const [claim = ""] = (await readdir(spool.folder)).filter((name) => name.startsWith("push.worker."));
  const before = Date.now() / 1000 - 90;
  await utimes(join(spool.folder, claim), before, before);
  const second = await claimWorker(spool.folder, "push", systemClock);
  expect(await second?.holds()).toBe(true);
  await second?.release();
  child.kill("SIGKILL");
  await once(child, "exit");
  await writeFile(join(spool.folder, claim), "");
  const third = await claimWorker(spool.folder, "push", systemClock);
  expect(await third?.holds()).toBe(true);
  await third?.release();
});

test("one that was started with former settings ends, and what it has noted is stored by the new ones", async () => {
  const [moved, names] = [await repositoryIn(memoryStore()), [1, 2, 3].map((number) => nameOf(number))];
  for (const name of names) await server.ready(name);
  const former = work();
  await eventually(async () => expect(await notes(".ok")).toEqual(names));
  let latter: Promise<boolean> | undefined;
  const startWorker = () => {
    latter = work([moved], 60_000, "2");
  };
  const archives = [archiveIn(destination(moved), server)];
  const request = { ...server, spool, archives, startWorker, mark: "2", boundMs: 20_000, signal: stopping.signal };
  await pushRequested(request, join(server.dataDir, "pg_wal", nameOf(1)), nameOf(1));
  expect(await former).toBe(true);
  await eventually(async () => expect(await notes(".ok")).toEqual(names));
  for (const name of names) expect(await isStored(name, moved), name).toBe(true);
  await server.ready(nameOf(4));
  await eventually(async () => expect(await isStored(nameOf(4), moved)).toBe(true));
  expect(await isStored(nameOf(4))).toBe(false);
  stopping.abort();
  expect(await latter).toBe(true);
});

test("it ends when nothing has been ready for a while, and when its server has ended", async () => {
  expect(await work([repository], 100)).toBe(true);
  await rm(join(server.dataDir, "postmaster.pid"));
  await server.ready(nameOf(1));
  expect(await work()).toBe(true);
  expect(await isStored(nameOf(1))).toBe(true);
});

test("a store that fails for a while is noted, left alone, and caught up with; the other repository goes on meanwhile", async () => {
  const second = await repositoryIn(memoryStore());
  const outage: Fault[] = [{ call: 2, method: "put", times: 3, does: "fail" }];
  const failing = { ...second, store: faultyStore(second.store, outage) };
  const names = Array.from({ length: 6 }, (_, index) => nameOf(index + 1));
  for (const name of names) await server.ready(name);
  const worker = work([repository, failing]);
  await eventually(async () => expect((await notes(".error")).length + (await notes(".ok")).length).toBeGreaterThan(0));
  await eventually(async () => {
    for (const name of names) expect(await isStored(name)).toBe(true);
  });
  await eventually(async () => expect(await notes(".ok")).toEqual(names));
  for (const name of names) expect(await isStored(name, second)).toBe(true);
  expect(await notes(".error")).toEqual([]);
  stopping.abort();
  await worker;
});

test("a file that is refused does not hold up those behind it", async () => {
  await server.ready(nameOf(1), Buffer.alloc(1024 * 1024));
  await server.ready(nameOf(2));
  const worker = work();
  await eventually(async () => expect(await notes(".ok")).toEqual([nameOf(2)]));
  await eventually(async () => expect(await notes(".error")).toEqual([nameOf(1)]));
  stopping.abort();
  await worker;
});
