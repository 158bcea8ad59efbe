import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../cli/run.ts";
import { makeRoot, project } from "../manifests/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";

/** As Bitnami's image has it: a uid that no /etc/passwd has a name for, and the root's group. */
const user = "1001:0";
let folder = "";
let dist = "";
let cluster: Cluster;

beforeAll(async () => {
  makeRoot();
  folder = await mkdtemp(join(tmpdir(), "pgkit-image-"));
  dist = join(folder, "dist");
  await promisify(execFile)(process.execPath, [join(project, "scripts", "build.ts"), dist]);
  cluster = await startCluster();
}, 900_000);

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Runs the image's entry point, or a program, as a container of it would; gives status and output. */
async function inImage(options: readonly string[], args: readonly string[]): Promise<{ status: number; out: string }> {
  const script = join(project, "scripts", "image-root.sh");
  const started = promisify(execFile)(script, ["run", "--user", user, ...options, "--", ...args], {
    env: { ...process.env, PGKIT_IMAGE_DIST: dist },
    maxBuffer: 2 ** 26,
  });
  return await ended(started);
}

async function ended(started: Promise<{ stdout: string; stderr: string }>): Promise<{ status: number; out: string }> {
  const { stdout, stderr, code } = await started.then(
    (good) => ({ ...good, code: 0 }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
  return { status: code, out: `${stdout}${stderr}` };
}

/** A folder that the image's user may write to. */
async function writable(name: string): Promise<string> {
  const path = join(folder, name);
  await mkdir(path);
  await promisify(execFile)("chown", [user, path]);
  return path;
}

async function configure(repository: string, archive = ""): Promise<string> {
  const path = join(folder, `pgkit-${(await readdir(folder)).length}.yaml`);
  const { host, port, superuser } = cluster;
  const url = `postgresql://${superuser}@${host}:${port}/postgres`;
  await writeFile(
    path,
    `repository: file://${repository}\ninstances: { shared: { url: "${url}", passwordFrom: { env: PASSWORD }${archive} } }\n`,
  );
  return path;
}

test("the image's user has no capability, no name in /etc/passwd, and nothing to write to but /scratch", async () => {
  const script =
    "grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status; id -u; touch /x /etc/x /opt/pgkit/x; touch /scratch/x && echo wrote; env";
  const { out } = await inImage(["--env", "GIVEN=1", "--command", "/usr/bin/sh"], ["-c", script]);
  expect(out.match(/^Cap\w+:\t0000000000000000$/gm)).toHaveLength(5);
  expect(out).toMatch(/^NoNewPrivs:\t1$/m);
  expect(out.match(/Read-only file system/g)).toHaveLength(3);
  expect(out).toContain("\n1001\n");
  expect(out).toContain("\nwrote\n");
  expect(out).toMatch(/^TMPDIR=\/scratch$/m);
  // Of the Dockerfile's ENV, and what was given: nothing of this machine's environment.
  const names = [...out.matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name).sort();
  expect(names).toEqual(["GIVEN", "HOME", "MALLOC_ARENA_MAX", "PATH", "PWD", "TMPDIR"]);
});

/** What a Pod's shell would do; a server of the image's own takes the part of the one to be backed up. */
const story = `set -e
pgkit() { /usr/local/lib/pgkit/entrypoint.sh "$@"; }
pgkit --version >/dev/null
bin=$(ls -d /usr/lib/postgresql/*/bin)
"$bin/initdb" -D /scratch/data -U postgres -A trust --no-sync >/dev/null
"$bin/pg_ctl" -D /scratch/data -w -o "-c listen_addresses= -c unix_socket_directories=/scratch -c fsync=off" -l /scratch/log start >/dev/null
export PGHOST=/scratch PGUSER=postgres PGKIT_REPOSITORY=/backups
"$bin/psql" -qc "CREATE DATABASE app" -c "\\connect app" -c "CREATE TABLE t AS SELECT n, md5(n::text) AS pad FROM generate_series(1, 1000) n"
pgkit backup logical app -q
pgkit list -q
pgkit verify --deep -q
pgkit restore app --as restored -q
"$bin/psql" -Atc "SELECT 'rows: ' || count(*) FROM t" restored
"$bin/pg_ctl" -D /scratch/data -m immediate stop >/dev/null`;

test("the smoke story as user 1001: backed up, listed, verified by a server of its own, and restored", async () => {
  const repository = await writable("backups");
  const options = ["--mount", `${repository}:/backups`, "--command", "/usr/bin/sh"];
  const { status, out } = await inImage(options, ["-c", story]);
  expect(status, out).toBe(0);
  expect(out).toMatch(/app-\d{8}T\d{6}Z-\w+ .*ok/);
  expect(out).toContain("rows: 1000\n");
  const [instance] = await readdir(join(repository, "backups"));
  expect(await readdir(join(repository, "backups", instance ?? ""))).toHaveLength(1);
}, 180_000);

test("a copy of /opt/pgkit, made as the init container does, archives and fetches WAL where there is nothing else at all", async () => {
  const copy = await writable("runtime");
  const copied = await inImage(
    ["--mount", `${copy}:/runtime`, "--command", "/usr/bin/cp"],
    ["-R", "/opt/pgkit/.", "/runtime/"],
  );
  expect(copied).toEqual({ status: 0, out: "" });
  const wal = await writable("wal");
  const repository = join(wal, "repository");
  const archive = ", archive: { method: archive, spool: /wal/spool }";
  const here = await configure(repository, archive);
  const enabled = await run(["pitr", "enable", "--config", here], { env: { PASSWORD: cluster.password } });
  expect(enabled, enabled.stderr).toMatchObject({ status: 0 });

  const [name = ""] = (await readdir(join(cluster.dataDir, "pg_wal")))
    .filter((each) => /^[0-9A-F]{24}$/.test(each))
    .sort();
  await cluster.psql("SELECT pg_switch_wal()");
  const segment = await readFile(join(cluster.dataDir, "pg_wal", name));
  // As a server with archive_mode says it, which this one would be after a restart.
  await writeFile(join(cluster.dataDir, "pg_wal", "archive_status", `${name}.ready`), "");
  await writeFile(
    join(wal, "pgkit.yaml"),
    (await readFile(here, "utf8")).replace(`file://${repository}`, "file:///wal/repository"),
  );
  const push = await inEmptyRoot({ copy, wal }, ["--instance", "shared", "wal", "push", `pg_wal/${name}`]);
  expect(push, push.out).toMatchObject({ status: 0 });
  const fetch = await inEmptyRoot({ copy, wal }, ["--instance", "shared", "wal", "fetch", name, "/wal/fetched"]);
  expect(fetch, fetch.out).toMatchObject({ status: 0 });
  expect((await readFile(join(wal, "fetched"))).equals(segment)).toBe(true);
}, 180_000);

/** A root directory with nothing in it but the volume, what the kernel gives, and a folder for WAL: no libc, no shell. */
async function inEmptyRoot({ copy, wal }: { copy: string; wal: string }, args: readonly string[]) {
  const root = join(folder, "empty");
  for (const name of ["opt/pgkit", "wal", "data", "proc", "dev", "tmp"])
    await mkdir(join(root, name), { recursive: true });
  const script = `set -e; root=$1 copy=$2 wal=$3 data=$4; shift 4
mount --bind "$copy" "$root/opt/pgkit"; mount --bind "$wal" "$root/wal"; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
mount --bind "$data" "$root/data"
exec env -i PATH="$PATH" TMPDIR=/wal HOME=/wal unshare --root "$root" --wd /data /opt/pgkit/runtime/bin/node /opt/pgkit/bin/pgkit.js --config /wal/pgkit.yaml "$@"`;
  return await ended(
    promisify(execFile)("unshare", [
      "--mount",
      "--pid",
      "--fork",
      "--propagation",
      "private",
      "sh",
      "-c",
      script,
      "sh",
      root,
      copy,
      wal,
      cluster.dataDir,
      ...args,
    ]),
  );
}
