import { execFile } from "node:child_process";
import { mkdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { failureStatus } from "../../src/cli/exit-status.ts";
import { errorCodes } from "../../src/lib/errors.ts";
import { systemClock } from "../../src/lib/time.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { createLineage, findWal, readWal } from "../../src/repo/wal.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { archiveCommand } from "../../src/wal/archive-command.ts";
import { archiveIn } from "../../src/wal/push.ts";
import { pushRequested } from "../../src/wal/push-request.ts";
import { openSpool } from "../../src/wal/spool.ts";
import { repositoryIn } from "../repo/support.ts";
import { destination, type MadeServer, made, madeServer, nameOf, segmentBytes, systemId } from "./made.ts";

let server: MadeServer;
let repository: Repository;
const name = nameOf(1);
const lineage = { instance: "main", systemId };

beforeEach(async () => {
  server = await madeServer();
  repository = await repositoryIn(memoryStore());
});
afterEach(async () => await rm(server.dataDir, { recursive: true, force: true }));

async function push(file: string, repositories: readonly Repository[] = [repository]): Promise<void> {
  const spool = await openSpool(server.dataDir, "pg_wal/pgkit");
  const archives = repositories.map((each) => archiveIn(destination(each), server));
  const startWorker = () => undefined;
  const signal = new AbortController().signal;
  const request = { ...server, spool, archives, startWorker, mark: "1", boundMs: 500, signal };
  await pushRequested(request, join(server.dataDir, "pg_wal", file), file);
}

async function stored(file: string, where = repository): Promise<Buffer | undefined> {
  const found = await findWal(where, lineage, file);
  return found && (await readWal(where, found));
}

test.each([
  { file: name, content: made(name) },
  { file: `${name}.partial`, content: made(name) },
  { file: "00000002.history", content: Buffer.from("1\t0/3000000\tno recovery target specified\n") },
  { file: `${name}.00000028.backup`, content: Buffer.from("START WAL LOCATION: 0/100028 (file ...)\n") },
])("$file is stored as it is, and again is fine", async ({ file, content }) => {
  await server.ready(name);
  await server.ready(file, content);
  if (file !== name) await server.done(name);
  await push(file);
  await push(file);
  expect(await stored(file)).toEqual(content);
});

describe("what is not the file that its name says is refused, and not stored", () => {
  test.each([
    { what: "cut", content: made(name, { length: segmentBytes - 8192 }) },
    { what: "empty", content: Buffer.alloc(0) },
    { what: "zeros", content: Buffer.alloc(segmentBytes) },
    { what: "of another server", content: made(name, { system: "7000000000000000002" }) },
    { what: "another segment", content: made(nameOf(2)) },
  ])("a segment that is $what", async ({ content }) => {
    await server.ready(name, content);
    await expect(push(name)).rejects.toMatchObject({ code: "wal-invalid", hint: expect.any(String) });
    expect(await stored(name)).toBeUndefined();
  });

  test.each(["00000002.history", `${name}.00000028.backup`])("an empty %s", async (file) => {
    await server.ready(file, "");
    await expect(push(file)).rejects.toMatchObject({ code: "wal-invalid" });
  });
});

test("another content under a stored name is a conflict, and the first stays", async () => {
  await server.ready(name);
  await push(name);
  await server.ready(name, made(name, { fill: 9 }));
  await expect(push(name)).rejects.toMatchObject({ code: "wal-conflict" });
  expect(await stored(name)).toEqual(made(name));
});

test("a server that the repository does not know by this instance is refused while another one is known", async () => {
  const other = { ...lineage, systemId: "7000000000000000009", segmentBytes, serverVersion: "15" };
  await createLineage(repository, other, systemClock);
  await server.ready(name);
  await expect(push(name)).rejects.toMatchObject({
    code: "system-mismatch",
    hint: expect.stringMatching("--new-lineage"),
  });
  await createLineage(repository, { ...other, systemId }, systemClock);
  await push(name);
  expect(await stored(name)).toEqual(made(name));
});

test("it is archived only when every repository has it", async () => {
  const broken = await repositoryIn(memoryStore());
  const failing = { ...broken, store: faultyStore(broken.store, [{ call: 1, method: "put", times: 3, does: "fail" }]) };
  await server.ready(name);
  await expect(push(name, [repository, failing])).rejects.toMatchObject({
    code: "store-failed",
    hint: expect.any(String),
  });
  for (let again = 0; again < 5; again++) await push(name, [repository, failing]).catch(() => undefined);
  await push(name, [repository, failing]);
  expect(await stored(name, broken)).toEqual(made(name));
});

test("a store that does not answer is told as such within the bound", async () => {
  const open = await repositoryIn(memoryStore());
  const hanging = { ...open, store: faultyStore(open.store, [{ call: 1, method: "put", times: 99, does: "hang" }]) };
  await server.ready(name);
  await expect(push(name, [hanging])).rejects.toMatchObject({ code: "store-unreachable" });
});

test("the shell acknowledges a segment by a newer note alone", async () => {
  const text = archiveCommand({ instance: "main", spool: "pg_wal/pgkit", command: "false" });
  const command = text.replaceAll("%f", name).replaceAll("%p", `pg_wal/${name}`);
  const acknowledged = () =>
    promisify(execFile)("sh", ["-c", command], { cwd: server.dataDir }).then(
      () => true,
      () => false,
    );
  await server.ready(name);
  await mkdir(join(server.dataDir, "pg_wal", "pgkit"));
  expect(await acknowledged()).toBe(false);
  const note = join(server.dataDir, "pg_wal", "pgkit", `${name}.ok`);
  await writeFile(note, "");
  const at = (seconds: number) => utimes(note, Date.now() / 1000 + seconds, Date.now() / 1000 + seconds);
  await at(-10);
  expect(await acknowledged()).toBe(false);
  await push(name);
  expect(await stored(name)).toEqual(await readFile(join(server.dataDir, "pg_wal", name)));
  await at(10);
  expect(await acknowledged()).toBe(true);
});

test("no failure of a push is above 125, and every failure of a fetch is 200", () => {
  for (const { exit } of Object.values(errorCodes)) {
    expect(failureStatus(["--config", "x", "wal", "push", "pg_wal/a"], exit)).toBeLessThanOrEqual(125);
    expect(failureStatus(["wal", "push", "pg_wal/a"], exit)).toBeGreaterThan(0);
    expect(failureStatus(["wal", "--json", "fetch"], exit)).toBe(200);
    expect(failureStatus(["list"], exit)).toBe(exit);
  }
});
