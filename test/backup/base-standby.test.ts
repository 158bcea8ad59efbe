import { chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { initServer } from "../../src/postgres/init-server.ts";
import { startServer } from "../../src/postgres/server.ts";
import { errorOf } from "../faults/support.ts";
import { startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { pgkitFor } from "../support/pgkit.ts";
import { archive, archiving, type BaseJson, listed, manifestOf, startStandby, verifyBackup } from "./base-support.ts";

/** A standby can send no backup of what was written without them. */
const pages = { full_page_writes: "on" };

test("a standby that is named sends the backup, and its primary closes the segment that it ends in", async () => {
  await using cluster = await startCluster({ settings: { ...archiving, ...pages } });
  await using standby = await startStandby(cluster);
  await using pgkit = await pgkitFor({ shared: { cluster, settings: ["base:", `  standby: ${standby.url}`] } });
  const running = pgkit.json<{ backups: BaseJson[] }>(["backup", "base"]);
  let done = false;
  const finished = running.finally(() => {
    done = true;
  });
  finished.catch(() => undefined);
  await eventually(async () => {
    await archive(cluster, pgkit);
    expect(done).toBe(true);
  });
  const [base] = (await running).backups;
  expect((await manifestOf(pgkit, base as BaseJson)).base).toMatchObject({ fromStandby: true, walIncluded: false });
  await verifyBackup(cluster, pgkit, base as BaseJson, "-n");
});

test("of several hosts the standby is found by target_session_attrs", async () => {
  await using cluster = await startCluster({ settings: pages });
  await using standby = await startStandby(cluster);
  const both = `${cluster.host}:${cluster.port},127.0.0.1:${new URL(standby.url).port}`;
  const url = (attributes: string) =>
    `postgresql://${cluster.superuser}:${cluster.password}@${both}/postgres?target_session_attrs=${attributes}`;
  await using pgkit = await pgkitFor({ shared: { cluster } });
  const from = async (attributes: string) => {
    const files = {
      "pgkit.yaml": `repository: ${pgkit.repository}\ninstances: { shared: { url: "${url(attributes)}" } }\n`,
    };
    const { backups } = await pgkit.json<{ backups: BaseJson[] }>(["backup", "base", "--with-wal"], { files });
    return (await manifestOf(pgkit, backups[0] as BaseJson)).base.fromStandby;
  };
  expect([await from("prefer-standby"), await from("standby"), await from("primary"), await from("any")]).toEqual([
    ...[true, true, false, false],
  ]);
});

test("a standby whose primary writes no full pages is told apart, with what to do", async () => {
  await using cluster = await startCluster();
  await using standby = await startStandby(cluster);
  await using pgkit = await pgkitFor({ shared: { cluster, settings: ["base:", `  standby: ${standby.url}`] } });
  const ran = await pgkit.run(["backup", "base", "--with-wal", "--json"]);
  expect([ran.status, errorOf(ran).error.code]).toEqual([2, "server-settings"]);
  expect(errorOf(ran).error.hint).toContain("full_page_writes = on");
});

test("a standby that is promoted in the middle has no backup", async () => {
  await using cluster = await startCluster({ settings: pages });
  await using standby = await startStandby(cluster);
  await cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 100000) i");
  await using pgkit = await pgkitFor({ shared: { cluster, settings: ["base:", `  standby: ${standby.url}`] } });
  const running = pgkit.run(["backup", "base", "--with-wal", "--max-rate", "1MiB", "--json"]);
  await eventually(async () => {
    const sent = await standby.psql("SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 0");
    expect(sent).toBe("1");
  });
  await standby.psql("SELECT pg_promote()");
  const ran = await running;
  expect([ran.status, errorOf(ran).error.code]).toEqual([30, "postgres-failed"]);
  expect(errorOf(ran).error.message).toMatch(/promoted/);
  expect(await listed(pgkit)).toEqual([]);
});

test("a standby of another instance is refused", async () => {
  await using cluster = await startCluster();
  const { binDir, runAs } = cluster;
  const folder = await mkdtemp(join(tmpdir(), "pgkit-stranger-"));
  if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
  const dataDir = join(folder, "data");
  await initServer({ binDir, dataDir, runAs, sync: false });
  // The password is that of the instance: here none is needed.
  await writeFile(
    join(dataDir, "pg_hba.conf"),
    "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n",
  );
  await writeFile(join(dataDir, "standby.signal"), "");
  const standby = await startServer({ binDir, dataDir, runAs, tcp: true });
  const url = `postgresql://postgres@127.0.0.1:${standby.port}/postgres`;
  await using pgkit = await pgkitFor({ shared: { cluster, settings: ["base:", `  standby: ${url}`] } });
  const ran = await pgkit.run(["backup", "base", "--with-wal", "--json"]);
  expect([ran.status, errorOf(ran).error.code]).toEqual([21, "system-mismatch"]);
  expect(errorOf(ran).error.message).toContain(await cluster.psql("SELECT system_identifier FROM pg_control_system()"));
  expect(await listed(pgkit)).toEqual([]);
  await standby.stop();
  await rm(folder, { recursive: true });
});
