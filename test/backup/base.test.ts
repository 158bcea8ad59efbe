import { execFile } from "node:child_process";
import { chown, mkdir, mkdtemp, open, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { errorOf } from "../faults/support.ts";
import { type Cluster, startCluster, withCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";
import {
  archive,
  archiving,
  type BaseJson,
  backUp,
  filesOf,
  listed,
  manifestOf,
  verifyBackup,
} from "./base-support.ts";

const run = promisify(execFile);

let cluster: Cluster;
let pgkit: Pgkit;
let space: string;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({ shared: { cluster } });
  space = await mkdtemp(join(tmpdir(), "pgkit-space-"));
  if (cluster.runAs !== undefined) await chown(space, cluster.runAs.uid, cluster.runAs.gid);
  await cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
  await cluster.psql(`CREATE TABLESPACE fast LOCATION '${space}'`);
  await cluster.psql("CREATE TABLE u TABLESPACE fast AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
});

afterAll(async () => {
  await pgkit[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await rm(space, { recursive: true });
});

async function membersOf(base: BaseJson): Promise<Record<string, string[]>> {
  const folder = filesOf(pgkit, base);
  const names = (await readdir(folder)).filter((name) => name.endsWith(".tar.zst"));
  const lists = await Promise.all(
    names.map(async (name) => {
      const { stdout } = await run("sh", ["-c", `zstd -qdc ${folder}/${name} | tar -t | LC_ALL=C sort`]);
      // What changes from minute to minute.
      return [
        name,
        stdout
          .trimEnd()
          .split("\n")
          .filter((path) => !/pg_wal\/|pg_internal.init|_(fsm|vm)$/.test(path)),
      ] as const;
    }),
  );
  return Object.fromEntries(lists);
}

describe("backup base", () => {
  test.each(["protocol", "pg_basebackup"])(
    "by engine %s, with its WAL inside, is what pg_verifybackup finds right, tablespaces included",
    async (engine) => {
      const base = await backUp(pgkit, "--with-wal", "--engine", engine, "--label", "it's a label");
      expect(base).toMatchObject({ kind: "base", wal: { timeline: 1 } });
      const oid = await cluster.psql("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'");
      expect(await readdir(filesOf(pgkit, base))).toEqual([`${oid}.tar.zst`, "backup_manifest.zst", "base.tar.zst"]);
      await verifyBackup(cluster, pgkit, base);
      const { base: facts } = await manifestOf(pgkit, base);
      expect(facts).toMatchObject({
        ...{ engine, walIncluded: true, fromStandby: false, label: "it's a label", segmentBytes: 16 * 1024 ** 2 },
        tablespaces: [{ oid: Number(oid), name: "fast", location: space }],
      });
      expect(facts.databases.map(({ name }: { name: string }) => name)).toContain("template0");
      expect(facts.sizeBytes).toBeGreaterThan(20 * 1024 ** 2);
    },
  );

  test("has the same layout and members by both engines", async () => {
    await cluster.psql("CHECKPOINT");
    const one = await backUp(pgkit, "--with-wal");
    const other = await backUp(pgkit, "--with-wal", "--engine", "pg_basebackup");
    expect(await membersOf(one)).toEqual(await membersOf(other));
    const shape = async (base: BaseJson) =>
      (await manifestOf(pgkit, base)).files.map(({ name, role, encoding }: Record<string, unknown>) => [
        name,
        role,
        encoding,
      ]);
    expect(await shape(one)).toEqual(await shape(other));
  });

  test("tells the moment from which it restores by the server's clock, right after its end", async () => {
    const before = await cluster.psql("SELECT extract(epoch FROM clock_timestamp()) * 1000");
    const base = await backUp(pgkit, "--with-wal");
    const after = await cluster.psql("SELECT extract(epoch FROM clock_timestamp()) * 1000");
    const stoppedMs = Date.parse((await manifestOf(pgkit, base)).base.stoppedAt);
    expect(stoppedMs).toBeGreaterThan(Number(before));
    expect(stoppedMs).toBeLessThan(Number(after) + 1);
  });

  test("without archiving is refused before the server is asked, and says what to do", async () => {
    const ran = await pgkit.run(["backup", "base", "--json"]);
    expect(ran.status).toBe(2);
    const { error } = errorOf(ran);
    expect(error).toMatchObject({ code: "server-settings", hint: expect.stringContaining("--with-wal") });
    expect(error.message).toContain("archive_mode is off");
  });

  test("sends no faster than asked", async () => {
    const startedMs = performance.now();
    const base = await backUp(pgkit, "--with-wal", "--max-rate", "2MiB");
    const { storedBytes } = await manifestOf(pgkit, base);
    expect(performance.now() - startedMs).toBeGreaterThan((storedBytes / (2 * 1024 ** 2)) * 1000 * 0.7);
  });
});

describe("a server that archives", () => {
  test("has a backup as soon as its WAL is in the repository, and not before", async () => {
    await withCluster({ settings: archiving }, async (server) => {
      await using one = await pgkitFor({ shared: { cluster: server } });
      const running = one.json<{ backups: BaseJson[] }>(["backup", "base"]);
      let ended = false;
      running
        .finally(() => {
          ended = true;
        })
        .catch(() => undefined);
      const names = await eventually(async () => {
        const archived = await archive(server, one, () => false);
        if (!archived.some((name) => name.endsWith(".backup"))) throw new Error("not stopped yet");
        return archived;
      });
      expect(await listed(one)).toEqual([]);
      const segments = names.filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
      await archive(server, one, (name) => name !== segments.at(-1));
      expect(ended).toBe(false);
      await archive(server, one);
      const [base] = (await running).backups;
      expect(await listed(one)).toEqual([base?.id]);
      const { base: facts } = await manifestOf(one, base as BaseJson);
      expect(facts.walIncluded).toBe(false);
      await verifyBackup(server, one, base as BaseJson, "-n");
    });
  });

  test("whose WAL does not come has no backup, and nothing of it is left", async () => {
    await withCluster({ settings: archiving }, async (server) => {
      await using one = await pgkitFor({ shared: { cluster: server } });
      const ran = await one.run(["backup", "base", "--wal-timeout", "1s", "--json"]);
      expect(ran.status).toBe(40);
      expect(errorOf(ran).error).toMatchObject({
        code: "wal-missing",
        message: expect.stringMatching(/0{7}1.*within 1s/),
      });
      expect(await listed(one)).toEqual([]);
      expect(await readdir(join(one.repository, "files")).catch(() => [])).toEqual([]);
    });
  });
});

describe("a damaged page", () => {
  test.each(["protocol", "pg_basebackup"])("fails the backup by the name of its file (%s)", async (engine) => {
    await withCluster({}, async (server) => {
      await using one = await pgkitFor({ shared: { cluster: server } });
      await server.stop();
      await run(join(server.binDir, "pg_checksums"), ["--enable", "-D", server.dataDir], {
        ...(server.runAs ?? {}),
      });
      await server.restart();
      await server.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 10000) i; CHECKPOINT");
      const path = await server.psql("SELECT pg_relation_filepath('t')");
      await backUp(one, "--with-wal", "--engine", engine);
      const file = await open(join(server.dataDir, path), "r+");
      await file.write(Buffer.from("x"), 0, 1, 8192 + 4000);
      await file.close();
      const ran = await one.run(["backup", "base", "--with-wal", "--engine", engine, "--json"]);
      expect(ran.status).toBe(40);
      expect(errorOf(ran).error).toMatchObject({ code: "page-corrupt", message: expect.stringContaining(path) });
      expect(await listed(one)).toHaveLength(1);
      expect(await readdir(join(one.repository, "files", "shared"))).toHaveLength(1);
    });
  });
});

describe("two repositories", () => {
  test("have the backup both, and one that fails leaves it to the other", async () => {
    const second = await mkdtemp(join(tmpdir(), "pgkit-second-"));
    const files = (url: string) => ({
      "pgkit.yaml": JSON.stringify({
        repositories: [
          { name: "one", url: pgkit.repository },
          { name: "two", url },
        ],
        instances: { shared: { url: cluster.url() } },
      }),
    });
    const both = await pgkit.json<{ backups: BaseJson[] }>(["backup", "base", "--with-wal"], { files: files(second) });
    expect(both.backups.map(({ id }) => id)).toEqual([both.backups[0]?.id, both.backups[0]?.id]);
    await writeFile(join(second, "occupied"), "");
    const broken = await pgkit.run(["backup", "base", "--with-wal", "--json"], {
      files: files(join(second, "occupied", "x")),
    });
    expect([broken.status, JSON.parse(broken.stdout).backups.length]).toEqual([3, 1]);
    await rm(second, { recursive: true });
  });

  test("at once by two runs: the second is told that it is locked", async () => {
    const slow = pgkit.run(["backup", "base", "--with-wal", "--max-rate", "1MiB", "--json"]);
    await eventually(async () => {
      if ((await cluster.psql("SELECT count(*) FROM pg_stat_progress_basebackup")) === "0")
        throw new Error("not begun");
    });
    const ran = await pgkit.run(["backup", "base", "--with-wal", "--json"]);
    expect([ran.status, errorOf(ran).error.code]).toEqual([11, "locked"]);
    expect((await slow).status).toBe(0);
  });
});

test("encrypted, it is age's, and the .zst inside is the server's own", async () => {
  const { generateIdentity, identityToRecipient } = await import("age-encryption");
  const recipient = await identityToRecipient(await generateIdentity());
  await mkdir(pgkit.repository, { recursive: true });
  const files = { "pgkit.yaml": `${pgkit.yaml}\nencryption: { recipients: [${recipient}] }\n` };
  const { backups } = await pgkit.json<{ backups: BaseJson[] }>(["backup", "base", "--with-wal"], { files });
  const names = await readdir(filesOf(pgkit, backups[0] as BaseJson));
  expect(names.filter((name) => !/^\d/.test(name))).toEqual(["backup_manifest.zst.age", "base.tar.zst.age"]);
  const { files: stored } = await manifestOf(pgkit, backups[0] as BaseJson);
  expect(stored.find(({ role }: { role: string }) => role === "base")).toMatchObject({
    encoding: ["age"],
    name: "base.tar.zst",
  });
});
