import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { buildProgram, type Ended, runProgram } from "./process.ts";
import {
  configured,
  databasesOf,
  errorOf,
  expectRefusal,
  fingerprint,
  makeDatabase,
  newFolder,
  succeed,
} from "./support.ts";

let cluster: Cluster;
let program = "";
let backedUp = "";

beforeAll(async () => {
  [cluster, program] = await Promise.all([startCluster(), buildProgram()]);
  await makeDatabase(cluster, "app", 5000);
  backedUp = await newFolder();
  await succeed(["backup", "logical", "app"], { files: filesFor(backedUp) });
});

afterAll(async () => {
  expect(await databasesOf(cluster)).toEqual(["app", "postgres"]);
  await cluster[Symbol.asyncDispose]();
});

function filesFor(repository: string, more: Record<string, unknown> = {}): Record<string, string> {
  return configured({ repository, url: cluster.url(), ...more });
}

/** Runs `script` with the program in "$@", in a mount namespace of its own. */
function inNamespace(script: string): { under: string[] } {
  return { under: ["unshare", "--mount", "--propagation", "private", "bash", "-euc", script, "bash"] };
}

function expectError(ended: Ended, wanted: { status: number; code: string; names: (string | RegExp)[]; hint: RegExp }) {
  expect(`${ended.status} ${ended.stderr}`).toMatch(new RegExp(`^${wanted.status} `));
  const { error } = errorOf(ended);
  expect(error.code).toBe(wanted.code);
  for (const name of wanted.names) expect(error.message).toMatch(name);
  expect(error.message).not.toContain("\n");
  expect(error.hint).toMatch(wanted.hint);
}

const backup = ["backup", "logical", "app", "--json"];
const restore = ["restore", "app", "--as", "copy", "--json"];

describe("the repository's folder", () => {
  test("on a full disk: exit 13, no litter, and a later run works", async () => {
    const repository = await newFolder();
    // What is left of the disk holds the leases, not the archive; then some of it is freed.
    const script = `mount -t tmpfs -o size=1m none ${repository}; head -c 900000 /dev/zero >${repository}/ballast
      status=0; "$@" || status=$?
      find ${repository} -path '*files*' -type f -o -path '*backups*' -type f -o -name 'temp.*' >&2
      echo "first $status" >&2; rm ${repository}/ballast; "$@"`;
    const ended = await runProgram(program, backup, { files: filesFor(repository), ...inNamespace(script) });
    const [document = "", ...rest] = ended.stderr.trimEnd().split("\n");
    expectError(
      { ...ended, status: 13, stderr: document },
      { status: 13, code: "store-full", names: [/archive\.dump/, /ENOSPC|no space left/], hint: /free space/ },
    );
    expect(rest).toEqual(["first 13"]);
    expect(ended.status).toBe(0);
    expect(JSON.parse(ended.stdout).backups).toHaveLength(1);
  });

  test("that is mounted read-only: backups are refused with 12, restores work", async () => {
    const repository = await newFolder();
    await cp(backedUp, repository, { recursive: true });
    const readOnly = inNamespace(
      `mount --bind ${repository} ${repository}; mount -o remount,bind,ro ${repository}; exec "$@"`,
    );
    const refused = await runProgram(program, backup, { files: filesFor(repository), ...readOnly });
    expectError(refused, {
      ...{ status: 12, code: "store-denied", hint: /mounted read-only/ },
      names: [repository, /EROFS|read-only/],
    });
    expect(refused.stdout).toBe("");
    const restored = await runProgram(program, restore, { files: filesFor(repository), ...readOnly });
    expect(restored).toMatchObject({ status: 0, stderr: expect.stringContaining("missing in the audit record") });
    expect(await fingerprint(cluster, "copy")).toBe(await fingerprint(cluster, "app"));
    await cluster.psql("DROP DATABASE copy");
  });

  test("whose file system is not mounted: exit 10, nothing beneath the mount point, and a later run goes on", async () => {
    const [repository, disk] = [await newFolder(), await newFolder()];
    const script = `mount -t tmpfs -o size=64m none ${disk}; mount --bind ${disk} ${repository}; "$@"
      umount ${repository}; status=0; "$@" || status=$?; ls -A ${repository} >&2; echo "unmounted $status" >&2
      mount --bind ${disk} ${repository}; "$@"; ls ${repository}/backups/shared >&2`;
    const ended = await runProgram(program, backup, { files: filesFor(repository), ...inNamespace(script) });
    expect(ended.status, ended.stderr).toBe(0);
    const [document = "", unmounted, ...backups] = ended.stderr.trimEnd().split("\n");
    expectError(
      { ...ended, status: 10, stderr: document },
      { status: 10, code: "repository-missing", names: [repository, /another file system/], hint: /mounted/ },
    );
    expect([unmounted, backups.length]).toEqual(["unmounted 10", 2]);
  });

  test("that was removed on purpose is made anew", async () => {
    const repository = await newFolder();
    const script = `"$@"; rm -r ${repository}; "$@"; ls ${repository}/backups/shared >&2`;
    const ended = await runProgram(program, backup, {
      files: filesFor(repository),
      under: ["bash", "-euc", script, "bash"],
    });
    expect([ended.status, ended.stderr.trimEnd().split("\n").length]).toEqual([0, 1]);
  });

  test("that is a file: exit 13", async () => {
    const path = join(await newFolder(), "file");
    await writeFile(path, "");
    const ended = await runProgram(program, backup, { files: filesFor(path) });
    expectError(ended, { status: 13, code: "store-failed", names: [path, /ENOTDIR|EEXIST/], hint: /./ });
  });
});

describe("the folder for temporary files", () => {
  let inParts: Record<string, string> = {};

  beforeAll(async () => {
    // In parts, the schema has to touch the disk.
    const instances = { shared: { url: cluster.url(), wholeBelow: "1kB" } };
    inParts = configured({ repository: await newFolder(), instances });
    await succeed(["backup", "logical", "app"], { files: inParts });
  });

  const restored = async (under: { under: string[] }, env: Record<string, string>) =>
    await runProgram(program, restore, { files: inParts, ...under, env });

  test("that is full: exit 30", async () => {
    const full = "/mnt";
    const under = inNamespace(
      `mount -t tmpfs -o size=64k none ${full}; head -c 1m /dev/zero >${full}/ballast || true; exec "$@"`,
    );
    const ended = await restored(under, { TMPDIR: full });
    expectError(ended, { status: 30, code: "disk-full", names: [/\/mnt/, /ENOSPC|no space left/], hint: /TMPDIR/ });
  });

  test.each([
    ["is not there", "/no/such/folder", /ENOENT/],
    ["is no folder", "/dev/null", /ENOTDIR/],
  ])("that %s: exit 2", async (_, TMPDIR, reason) => {
    const ended = await restored({ under: [] }, { TMPDIR });
    expectError(ended, { status: 2, code: "config", names: [TMPDIR, reason], hint: /TMPDIR/ });
  });

  test("that is read-only: exit 2", async () => {
    const under = inNamespace(`mount -t tmpfs -o ro none /mnt; exec "$@"`);
    expectError(await restored(under, { TMPDIR: "/mnt" }), {
      ...{ status: 2, code: "config", names: [/\/mnt/, /EROFS/], hint: /TMPDIR/ },
    });
  });
});

describe("PostgreSQL's programs", () => {
  const places = "/usr/lib/postgresql";

  test("that are not installed: exit 30, naming the package", async () => {
    const under = inNamespace(`mount -t tmpfs none ${places}; exec "$@"`);
    for (const args of [backup, restore]) {
      const ended = await runProgram(program, args, { files: filesFor(backedUp), ...under });
      expectError(ended, {
        ...{ status: 30, code: "tool-missing", hint: new RegExp(`postgresql-client-${cluster.major}`) },
        names: [new RegExp(`PostgreSQL ${cluster.major} `), /found: none/],
      });
    }
  });

  test("of another major alone: exit 30, naming both", async () => {
    const folder = join(await newFolder(), "11", "bin");
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "pg_dump"), "#!/bin/sh\necho 'pg_dump (PostgreSQL) 11.22'\n");
    await chmod(join(folder, "pg_dump"), 0o755);
    const under = inNamespace(`mount -t tmpfs none ${places}; exec "$@"`);
    const files = filesFor(backedUp, { postgresBin: [folder] });
    expectError(await runProgram(program, backup, { files, ...under }), {
      ...{ status: 30, code: "tool-missing", hint: /install/ },
      names: [new RegExp(`PostgreSQL ${cluster.major} `), `found: 11.22 in ${folder}`],
    });
  });

  test("that fail: exit 30, with their own words", async () => {
    const folder = await newFolder();
    await writeFile(
      join(folder, "pg_dump"),
      `#!/bin/sh\n[ "$1" = --version ] && exec ${cluster.binDir}/pg_dump --version\nhead -c 300000 /dev/zero\necho 'pg_dump: error: out of luck' >&2\nexit 3\n`,
    );
    await chmod(join(folder, "pg_dump"), 0o755);
    const repository = await newFolder();
    const under = inNamespace(`mount --bind ${folder}/pg_dump ${cluster.binDir}/pg_dump; exec "$@"`);
    // Bound over itself it would call itself for its version.
    await cp(join(cluster.binDir, "pg_dump"), join(folder, "real"));
    await writeFile(
      join(folder, "pg_dump"),
      `#!/bin/sh\n[ "$1" = --version ] && exec ${folder}/real --version\nhead -c 300000 /dev/zero\necho 'pg_dump: error: out of luck' >&2\nexit 3\n`,
    );
    const ended = await runProgram(program, backup, { files: filesFor(repository), ...under });
    expectError(ended, {
      status: 30,
      code: "tool-failed",
      names: [/pg_dump/, /app/, /exit status 3/, /out of luck/],
      hint: /./,
    });
    expect(
      JSON.parse((await runProgram(program, ["list", "--json"], { files: filesFor(repository) })).stdout).backups,
    ).toEqual([]);
  });
});

describe("the target of a restore", () => {
  test("has a name that is too long: exit 2", async () => {
    const name = "x".repeat(64);
    await expectRefusal({
      ...{ args: ["restore", "app", "--as", name], options: { files: filesFor(backedUp) }, status: 2, code: "usage" },
      ...{ names: [name, "63 bytes"], hint: /./ },
    });
  });

  test("is there already: exit 21", async () => {
    await expectRefusal({
      ...{ args: ["restore", "app"], options: { files: filesFor(backedUp) }, status: 21, code: "refused-overwrite" },
      ...{ names: ["database app", "instance shared"], hint: "--replace" },
    });
  });

  test("is to be replaced and not there: exit 10", async () => {
    const files = filesFor(backedUp);
    await cluster.psql("ALTER DATABASE app RENAME TO moved");
    await expectRefusal({
      ...{ args: ["restore", "app", "--replace", "--yes"], options: { files }, status: 10, code: "database-missing" },
      ...{ names: ["database app", "instance shared"], hint: "--replace" },
    });
    await cluster.psql("ALTER DATABASE moved RENAME TO app");
  });

  test("would be replaced without a word from anybody: exit 2", async () => {
    const before = await fingerprint(cluster, "app");
    await expectRefusal({
      ...{ args: ["restore", "app", "--replace"], options: { files: filesFor(backedUp) }, status: 2, code: "usage" },
      ...{ names: ["app", "no terminal"], hint: "--yes" },
    });
    expect(await fingerprint(cluster, "app")).toBe(before);
  });

  test("is a standby: exit 2, and backups can be taken from it", async () => {
    const standby = await startCluster();
    try {
      await makeDatabase(standby, "app");
      await standby.stop();
      await writeFile(join(standby.dataDir, "standby.signal"), "");
      await standby.restart();
      const files = configured({ repository: backedUp, url: standby.url() });
      await expectRefusal({
        ...{ args: ["restore", "app", "--as", "copy"], options: { files }, status: 2, code: "usage" },
        ...{ names: ["instance shared", "standby"], hint: "primary" },
      });
      await succeed(["backup", "logical", "app"], {
        files: configured({ repository: await newFolder(), url: standby.url() }),
      });
    } finally {
      await standby[Symbol.asyncDispose]();
    }
  });

  test("has no room on the server's disk: exit 30, nothing of it is left, and the server goes on", async () => {
    const server = await clusterWithSmallDisk();
    try {
      const client = new pg.Client({ connectionString: server.url });
      await client.connect();
      await client.query("CREATE DATABASE app TABLESPACE small");
      const inside = new pg.Client({ connectionString: server.url.replace(/postgres$/, "app") });
      await inside.connect();
      await inside.query("CREATE TABLE t AS SELECT i, repeat('x', 1000) AS v FROM generate_series(1, 6000) i");
      await inside.end();
      const files = configured({ repository: await newFolder(), url: server.url });
      await succeed(["backup", "logical", "app"], { files });
      await expectRefusal({
        ...{ args: ["restore", "app", "--as", "copy"], options: { files }, status: 30, code: "disk-full" },
        ...{ names: [/No space left on device/, /copy/], hint: "free space on the server" },
      });
      const { rows } = await client.query("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1");
      expect(rows).toEqual([{ datname: "app" }, { datname: "postgres" }]);
      await client.end();
    } finally {
      await server.end();
    }
  });
});

/** A server that has a tablespace `small` on a disk of 24 MB, in a mount namespace of its own. */
async function clusterWithSmallDisk(): Promise<{ url: string; end: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-small-"));
  // The server's own user must be able to pass through.
  await chmod(folder, 0o755);
  const script = `mount -t tmpfs -o size=24m,mode=755 none ${folder}; exec "$@"`;
  const [first = "", ...rest] = inNamespace(script).under;
  const own = join(import.meta.dirname, "cluster-in-namespace.ts");
  const child: ChildProcess = spawn(first, [...rest, process.execPath, own, folder], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [line] = await Promise.race([once(child.stdout ?? child, "data"), once(child, "exit")]);
  const end = async () => {
    const gone = once(child, "exit");
    child.stdin?.end();
    await gone;
    await rm(folder, { recursive: true });
  };
  return { url: String(line).trim(), end };
}
