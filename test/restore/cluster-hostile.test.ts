import { execFile } from "node:child_process";
import { chown, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { unprivilegedUser } from "../../src/postgres/run-as.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { extractArchive } from "../../src/restore/cluster-extract.ts";
import { fileThread } from "../../src/restore/file-thread.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { openFolder, restore, takeBackup } from "./cluster-support.ts";

const run = promisify(execFile);
const child = join(import.meta.dirname, "cluster-restore-child.ts");

let cluster: Cluster;
let folder = "";
let repository: Repository;
let backup: Manifest;
let oid = 0;

beforeAll(async () => {
  folder = await openFolder(await mkdtemp(join(tmpdir(), "pgkit-hostile-test-")));
  cluster = await startCluster({ settings: { wal_level: "replica", max_wal_senders: "4" } });
  repository = await repositoryIn(fileStore({ path: join(folder, "repository") }));
  await cluster.psql("CREATE TABLE spends AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i");
  await cluster.psql(`CREATE TABLESPACE fast LOCATION '${await openFolder(join(folder, "space"))}'`);
  await cluster.psql("CREATE TABLE quick TABLESPACE fast AS SELECT i FROM generate_series(1, 1000) i");
  oid = Number(await cluster.psql("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'"));
  backup = await takeBackup(cluster, repository, folder, { id: "base-1" });
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function expectWhole(dataDir: string): Promise<void> {
  await run(join(cluster.binDir, "pg_verifybackup"), ["-q", "-n", "-i", "tablespace_map", dataDir]);
}

describe("an archive that somebody else has made", () => {
  const hostile = [
    { what: "a path that climbs out", make: ["--transform", "s,^evil$,../evil,", "evil"], says: /"\.\.\/evil", which/ },
    { what: "one that does so further in", make: ["--transform", "s,^evil$,base/../../evil,", "evil"], says: /\.\.\// },
    { what: "an absolute path", make: ["-P", "--transform", "s,^evil$,/evil,", "evil"], says: /"\/evil", which/ },
    {
      what: "a link to elsewhere, and a file through it",
      make: ["way", "through"],
      says: /a link from way to \/.*, which/,
    },
    {
      what: "a tablespace that climbs out",
      make: ["--transform", "s,^evil$,../evil,", "evil"],
      says: /leads out/,
      space: 1,
    },
  ];

  it.each(hostile)("with $what is refused, and nothing is written outside", async ({ make, says, space }) => {
    const place = await mkdtemp(join(folder, "hostile-"));
    const [from, outside, dataDir] = [join(place, "from"), join(place, "outside"), join(place, "data")];
    for (const dir of [from, outside, dataDir]) await mkdir(dir);
    await writeFile(join(from, "evil"), "evil");
    await symlink(outside, join(from, "way"));
    await writeFile(join(from, "through"), "evil");
    const through = ["--transform", "s,^through$,way/evil,"];
    await run("tar", ["-C", from, "-P", ...through, "-cf", join(place, "tar"), ...make]);
    const tar = [await readFile(join(place, "tar"))];
    const found = { files: new Set<string>(), folders: new Map<string, number>(), writtenBytes: 0, problems: [] };
    const spaces = [{ oid: 16400, from: "/srv", to: join(place, "space") }];
    const thread = fileThread();
    const work = extractArchive(
      {
        ...{ places: { dataDir, tablespaces: spaces }, manifest: { files: new Map() } as never, found, thread },
        ...{
          runAs: await unprivilegedUser(),
          kept: new Set(),
          wants: () => true,
          signal: new AbortController().signal,
        },
      },
      tarBytes(tar),
      { oid: space && 16400, where: "base.tar.zst of base-1", owned: false },
    );
    await expect(work).rejects.toMatchObject({ code: "object-corrupt", message: expect.stringMatching(says) });
    await thread.finish();
    await thread.end();
    expect(await readdir(place)).not.toContain("evil");
    expect(await readdir(outside)).toEqual([]);
    await expect(stat("/evil")).rejects.toMatchObject({ code: "ENOENT" });
  });

  async function* tarBytes(pieces: Buffer[]) {
    yield* pieces;
  }
});

describe("a place", () => {
  async function inNamespace(script: string, dataDir: string, space: string) {
    const args = [process.execPath, child, join(folder, "repository"), "base-1", dataDir, `${oid}=${space}`];
    const unshare = ["--mount", "--propagation", "private", "bash", "-uc", script, "bash", ...args];
    return await run("unshare", unshare);
  }

  it("whose disk becomes full is told as that, and the same restore goes on where there is space", async () => {
    const place = await openFolder(join(folder, "full"));
    const { stdout, stderr } = await inNamespace(
      `mount -t tmpfs -o size=12m,mode=755 none ${place}; "$@"; echo "first $?"
        ls ${place}/data/global/pg_control; mount -o remount,size=200m ${place}; "$@"; echo "second $?"
        ${cluster.binDir}/pg_verifybackup -q -n -i tablespace_map ${place}/data; echo "verified $?"`,
      join(place, "data"),
      join(place, "space"),
    );
    expect(stderr).toMatch(/disk-full/);
    expect(stderr).toMatch(/goes on where it was/);
    expect(stderr).toMatch(/cannot access '.*pg_control'/);
    expect(stdout).toMatch(/first 1\n.*second 0\nverified 0/s);
  });

  it("that is mounted read-only is told as that", async () => {
    const place = await openFolder(join(folder, "read-only"));
    const script = `mount -t tmpfs -o ro none ${place}; "$@"; exit 0`;
    const { stderr } = await inNamespace(script, join(place, "data"), join(place, "space"));
    expect(stderr).toMatch(/EROFS|read-only/);
    expect(stderr).toMatch(/it is mounted read-only/);
  });

  it("where we may not write is told with whose account it needs", async () => {
    const place = join(folder, "not-ours");
    await mkdir(place, { mode: 0o755 });
    await run("chmod", ["-R", "a+rX", join(folder, "repository")]);
    const args = [child, join(folder, "repository"), "base-1", join(place, "data"), `${oid}=${join(place, "space")}`];
    const work = run(process.execPath, args, cluster.runAs === undefined ? {} : { ...cluster.runAs, cwd: "/" });
    // As another user than root: root may write everywhere.
    await expect(work).rejects.toMatchObject({ stderr: expect.stringMatching(/EACCES.*|owner of that directory/s) });
    expect(await readdir(place)).toEqual([]);
  });

  it("of a tablespace that is not there yet is made, with all above it", async () => {
    const place = await openFolder(join(folder, "deep"));
    const space = join(place, "not", "there", "space");
    await restore(repository, [backup], join(place, "data"), { tablespaces: new Map([[oid, space]]) });
    await expectWhole(join(place, "data"));
    const owner = cluster.runAs?.uid ?? process.getuid?.();
    expect([(await stat(space)).uid, (await stat(space)).mode & 0o777]).toEqual([owner, 0o700]);
    expect((await stat(dirname(space))).mode & 0o777, "the server passes through").toBe(0o755);
  });
});

describe("--delta", () => {
  it("makes files of another owner, and with wider modes, what they must be", async () => {
    const place = await openFolder(join(folder, "mixed"));
    const dataDir = join(place, "data");
    const tablespaces = new Map([[oid, join(place, "space")]]);
    await restore(repository, [backup], dataDir, { tablespaces });
    await chown(join(dataDir, "PG_VERSION"), 0, 0);
    await chown(join(dataDir, "base/1"), 0, 0);
    await run("chmod", ["0666", join(dataDir, "postgresql.conf")]);
    await rm(join(place, "space"), { recursive: true });
    await restore(repository, [backup], dataDir, { tablespaces, delta: true });
    const owner = cluster.runAs?.uid ?? process.getuid?.();
    for (const path of ["PG_VERSION", "base/1", "postgresql.conf"]) {
      const { uid, mode } = await stat(join(dataDir, path));
      expect({ path, uid, wide: mode & 0o077 }).toEqual({ path, uid: owner, wide: 0 });
    }
    await expectWhole(dataDir);
  });
});
