import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { initServer } from "../../src/postgres/init-server.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

interface Done {
  changes: { setting: string; from: string; to?: string; needsRestart: boolean }[];
  restartNeeded: { setting: string; running: string; configured: string }[];
  slot?: { name: string; action: string };
  lineage: { systemId: string; new: boolean; others: string[] };
  notes: string[];
  leftAlone: { name: string; why: string }[];
  droppedSlots: string[];
}

const settings = ['archive: { command: "pgkit --config /etc/pgkit/pgkit.yaml" }'];
const command = "test pg_wal/pgkit/%f.ok -nt %p || pgkit --config /etc/pgkit/pgkit.yaml --instance main wal push %p";
const enableArchive = ["pitr", "enable", "--method", "archive"];
const enableStream = ["pitr", "enable", "--method", "stream"];
const disable = ["pitr", "disable", "--yes"];

async function both(started: Record<string, string> = {}): Promise<{ cluster: Cluster; pgkit: Pgkit }> {
  const cluster = await startCluster({ settings: started });
  onTestFinished(async () => await cluster[Symbol.asyncDispose]());
  const pgkit = await pgkitFor({ main: { cluster, settings } });
  onTestFinished(async () => await pgkit[Symbol.asyncDispose]());
  return { cluster, pgkit };
}

async function autoConf({ dataDir }: Cluster): Promise<string> {
  return await readFile(join(dataDir, "postgresql.auto.conf"), "utf8");
}

function names(changes: { setting: string }[]): string[] {
  return changes.map(({ setting }) => setting);
}

/** What a command said when it failed, with its status in front. */
async function refusal(pgkit: Pgkit, args: readonly string[]): Promise<{ status: number; code: string; text: string }> {
  const { status, stderr, stdout } = await pgkit.run([...args, "--json"]);
  if (status === 0) throw new Error(`it was not refused: ${stdout}`);
  const { error } = JSON.parse(stderr);
  return { status, code: error.code, text: `${error.message}; ${error.hint}` };
}

/** From 17 on WAL is summarized for incremental backups. */
function andSummaries({ major }: Cluster, others: string[]): string[] {
  return major >= 17 ? [...others, "summarize_wal"] : others;
}

describe("pgkit pitr enable by the archive_command", () => {
  it("sets what is missing, names what waits for a restart, and finds nothing to do after; disable leaves no trace", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("ALTER SYSTEM SET work_mem = '5MB'");
    const before = await autoConf(cluster);
    const first = await pgkit.json<Done>(enableArchive);
    const wanted = ["archive_mode", "archive_command", "archive_timeout"];
    expect(names(first.changes)).toEqual(andSummaries(cluster, wanted));
    const waits = { setting: "archive_mode", running: "off", configured: "on", why: expect.stringContaining("starts") };
    expect(first.restartNeeded).toEqual([waits]);
    expect(first.lineage).toMatchObject({ new: true, others: [] });
    const again = await pgkit.json<Done>(enableArchive);
    expect(again).toMatchObject({ changes: [], restartNeeded: [waits], lineage: { new: false } });
    await cluster.restart();
    expect(await cluster.psql("SHOW archive_command")).toBe(command);
    expect(await cluster.psql("SHOW archive_timeout")).toBe("1min");
    expect(await pgkit.json<Done>(enableArchive)).toMatchObject({ changes: [], restartNeeded: [] });
    const off = await pgkit.json<Done>(disable);
    expect(off).toMatchObject({ leftAlone: [], restartNeeded: [{ setting: "archive_mode", configured: "off" }] });
    expect(await autoConf(cluster)).toBe(before);
    expect(await pgkit.json<Done>(disable)).toMatchObject({ changes: [], restartNeeded: [] });
    expect((await pgkit.run(disable)).stdout).toContain("nothing to do");
  });

  it("changes nothing under --dry-run, and shows the same plan", async () => {
    const { cluster, pgkit } = await both();
    const before = await autoConf(cluster);
    const dry = await pgkit.json<Done>([...enableArchive, "--dry-run"]);
    expect(await autoConf(cluster)).toBe(before);
    expect((await pgkit.run(["list"])).status).toBe(10);
    expect((await pgkit.json<Done>(enableArchive)).changes).toEqual(dry.changes);
    const set = await autoConf(cluster);
    await pgkit.json<Done>(["pitr", "disable", "--dry-run"]);
    expect(await autoConf(cluster)).toBe(set);
  });

  it("keeps what serves already, and puts former values back", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("ALTER SYSTEM SET wal_level = 'logical'");
    await cluster.psql("ALTER SYSTEM SET archive_mode = 'always'");
    await cluster.psql("ALTER SYSTEM SET archive_command = '/bin/true'");
    await cluster.psql("ALTER SYSTEM SET archive_timeout = '1h'");
    await cluster.restart();
    const before = await autoConf(cluster);
    const { changes, restartNeeded } = await pgkit.json<Done>(enableArchive);
    expect(names(changes)).toEqual(andSummaries(cluster, ["archive_command", "archive_timeout"]));
    expect(restartNeeded).toEqual([]);
    await pgkit.json<Done>(disable);
    expect((await autoConf(cluster)).split("\n").sort()).toEqual(before.split("\n").sort());
    expect(await cluster.psql("SHOW archive_command")).toBe("/bin/true");
  });

  it("still knows what stood there first when it is enabled again with another configuration", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("ALTER SYSTEM SET archive_command = '/bin/true'");
    const before = await autoConf(cluster);
    await pgkit.json<Done>(enableArchive);
    const files = { "pgkit.yaml": pgkit.yaml.replace("/etc/pgkit/", "/srv/pgkit/") };
    const { changes } = await pgkit.json<Done>(enableArchive, { files });
    expect(changes).toMatchObject([
      { setting: "archive_command", from: command, to: expect.stringContaining("/srv/") },
    ]);
    await pgkit.json<Done>(disable);
    expect(await autoConf(cluster)).toBe(before);
  });

  it("undoes what an enable that was cut has done, and passes over what it never came to", async () => {
    const { cluster, pgkit } = await both();
    const before = await autoConf(cluster);
    await pgkit.json<Done>(enableArchive);
    await cluster.psql("ALTER SYSTEM RESET archive_command");
    await cluster.psql("ALTER SYSTEM RESET archive_timeout");
    const off = await pgkit.json<Done>(disable);
    expect(names(off.changes)).toEqual(andSummaries(cluster, ["archive_mode"]));
    expect(off.leftAlone).toEqual([]);
    expect(await autoConf(cluster)).toBe(before);
  });

  it("refuses to take the place of another archive_command, and gives it back when it was told to take it", async () => {
    const { cluster, pgkit } = await both();
    const other = "cp %p '/mnt/it''s here/%f'";
    await cluster.psql(`ALTER SYSTEM SET archive_command = '${other.replaceAll("'", "''")}'`);
    const before = await autoConf(cluster);
    const refused = await refusal(pgkit, enableArchive);
    expect(refused).toMatchObject({ status: 21, code: "refused-overwrite" });
    expect(refused.text).toContain(other);
    expect(refused.text).toContain("--replace-command");
    expect(await autoConf(cluster)).toBe(before);
    await pgkit.json<Done>([...enableArchive, "--replace-command"]);
    await cluster.restart();
    expect(await cluster.psql("SHOW archive_command")).toBe(command);
    await pgkit.json<Done>(disable);
    expect(await cluster.psql("SHOW archive_command")).toBe(other);
    expect(await autoConf(cluster)).toBe(before);
  });

  it("leaves what was changed since, and says so", async () => {
    const { cluster, pgkit } = await both();
    await pgkit.json<Done>(enableArchive);
    await cluster.psql("ALTER SYSTEM SET archive_timeout = '7s'");
    const off = await pgkit.json<Done>(disable);
    expect(off.leftAlone).toEqual([{ name: "archive_timeout", why: expect.stringContaining("7s") }]);
    expect(await autoConf(cluster)).toMatch(/^[^\n]*\n[^\n]*\narchive_timeout = '7s'\n$/);
  });

  it("says who must change what the server was started with, before anything is changed", async () => {
    const { cluster, pgkit } = await both({ archive_mode: "off", archive_timeout: "600" });
    const before = await autoConf(cluster);
    const refused = await refusal(pgkit, enableArchive);
    expect(refused).toMatchObject({ status: 2, code: "server-settings" });
    expect(refused.text).toMatch(/archive_mode is off by the command line .* unit file, container or operator/);
    expect(await autoConf(cluster)).toBe(before);
    await cluster.restart({ archive_mode: "on" });
    const { changes, notes } = await pgkit.json<Done>(enableArchive);
    expect(names(changes)).toEqual(andSummaries(cluster, ["archive_command"]));
    expect(notes.join()).toMatch(/archive_timeout is 600 by the command line .* should be 60/);
  });

  it("refuses when the server cannot read its files, naming the line", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("COPY (SELECT 'work_mem = lots') TO PROGRAM 'cat >> postgresql.conf'");
    const refused = await refusal(pgkit, enableArchive);
    expect(refused).toMatchObject({ status: 2, code: "server-settings" });
    expect(refused.text).toMatch(/postgresql\.conf, line \d+: work_mem/);
  });

  it("gives the administrator's statements to a user without the right, and takes rights on single settings", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("CREATE ROLE limited LOGIN PASSWORD 'x'");
    await using restricted = await pgkitFor({ main: { cluster, settings, user: { name: "limited", password: "x" } } });
    const refused = await refusal(restricted, enableArchive);
    expect(refused).toMatchObject({ status: 12, code: "postgres-denied" });
    const [run = "", grant = ""] = refused.text.split("; or lets pgkit do and undo it: ");
    for (const statement of (run.split("an administrator runs: ")[1] ?? "").split("; ")) await cluster.psql(statement);
    await cluster.restart();
    expect(await cluster.psql("SHOW archive_command")).toBe(command);
    expect(await pgkit.json<Done>(enableArchive)).toMatchObject({ changes: [] });
    expect(await restricted.json<Done>(enableArchive)).toMatchObject({ changes: [] });
    await cluster.psql("ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf()".split("; ")[0] ?? "");
    for (const statement of grant.split("; ")) await cluster.psql(statement);
    await cluster.psql("SELECT pg_reload_conf()");
    const { changes } = await restricted.json<Done>(enableArchive);
    expect(names(changes)).toEqual(["archive_command"]);
  });
});

describe("pgkit pitr enable for the streamer", () => {
  it("makes the slot, which keeps WAL at once, and disable drops it", async () => {
    const { cluster, pgkit } = await both();
    const { changes, slot } = await pgkit.json<Done>(enableStream);
    expect(names(changes)).toEqual(andSummaries(cluster, []));
    expect(slot).toEqual({ name: "pgkit_main", action: "create" });
    const kept =
      "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'pgkit_main' AND restart_lsn IS NOT NULL";
    expect(await cluster.psql(kept)).toBe("reserved");
    expect((await pgkit.json<Done>(enableStream)).slot).toEqual({ name: "pgkit_main", action: "kept" });
    expect(await pgkit.json<Done>(disable)).toMatchObject({ droppedSlots: ["pgkit_main"] });
    expect(await cluster.psql("SELECT count(*) FROM pg_replication_slots")).toBe("0");
  });

  it("leaves a slot that it did not make", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("SELECT pg_create_physical_replication_slot('pgkit_main', true)");
    expect((await pgkit.json<Done>(enableStream)).slot).toMatchObject({ action: "kept" });
    expect(await pgkit.json<Done>(disable)).toMatchObject({ droppedSlots: [] });
    expect(await cluster.psql("SELECT slot_name FROM pg_replication_slots")).toBe("pgkit_main");
  });

  it("raises what wal_level = minimal lacks, has the slot made after the restart, and can go all the way back", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("ALTER SYSTEM SET wal_level = 'minimal'");
    await cluster.psql("ALTER SYSTEM SET max_wal_senders = 0");
    await cluster.psql("ALTER SYSTEM SET max_replication_slots = 0");
    await cluster.restart();
    const before = await autoConf(cluster);
    const first = await pgkit.json<Done>(enableStream);
    const raised = ["wal_level", "max_wal_senders", "max_replication_slots"];
    expect(names(first.changes)).toEqual(andSummaries(cluster, raised));
    expect(names(first.restartNeeded).sort()).toEqual([...raised].sort());
    expect(first.slot).toMatchObject({ action: "after-restart" });
    await cluster.restart();
    expect((await pgkit.json<Done>(enableStream)).slot).toMatchObject({ action: "create" });
    await pgkit.json<Done>(disable);
    expect((await autoConf(cluster)).split("\n").sort()).toEqual(before.split("\n").sort());
    await cluster.restart();
    expect(await cluster.psql("SHOW wal_level")).toBe("minimal");
  });

  it("keeps wal_level where another's slot needs it: the server would not start", async () => {
    const { cluster, pgkit } = await both();
    await cluster.psql("ALTER SYSTEM SET wal_level = 'minimal'");
    await cluster.psql("ALTER SYSTEM SET max_wal_senders = 0");
    await cluster.restart();
    await pgkit.json<Done>(enableStream);
    await cluster.restart();
    await cluster.psql("SELECT pg_create_physical_replication_slot('standby')");
    const off = await pgkit.json<Done>(disable);
    expect(names(off.leftAlone.map(({ name }) => ({ setting: name }))).sort()).toEqual([
      "max_wal_senders",
      "wal_level",
    ]);
    expect(off.leftAlone[0]?.why).toContain("standby");
    await cluster.restart();
    expect(await cluster.psql("SHOW wal_level")).toBe("replica");
  });

  it("refuses a user who may not replicate, and a host that pg_hba.conf does not let replicate", async () => {
    const { cluster } = await both();
    await cluster.psql("CREATE ROLE limited LOGIN PASSWORD 'x'");
    await using restricted = await pgkitFor({ main: { cluster, settings, user: { name: "limited", password: "x" } } });
    const refused = await refusal(restricted, enableStream);
    expect(refused).toMatchObject({ status: 12, text: expect.stringContaining('ALTER ROLE "limited" REPLICATION') });
    await cluster.psql("ALTER ROLE limited REPLICATION");
    await cluster.psql("COPY (SELECT 'host all all all scram-sha-256') TO PROGRAM 'cat > pg_hba.conf'");
    await cluster.psql("SELECT pg_reload_conf()");
    const closed = await refusal(restricted, enableStream);
    expect(closed).toMatchObject({ status: 12, text: expect.stringMatching(/pg_hba\.conf/) });
    expect(await cluster.psql("SELECT count(*) FROM pg_replication_slots")).toBe("0");
  });

  it("refuses a name that a logical slot has", async () => {
    const { cluster, pgkit } = await both({ wal_level: "logical" });
    await cluster.psql("SELECT pg_create_logical_replication_slot('pgkit_main', 'pgoutput')");
    expect(await refusal(pgkit, enableStream)).toMatchObject({ status: 21, code: "refused-overwrite" });
  });
});

describe("the WAL of an instance in a repository", () => {
  it("is bound to its server: another one is refused, and by --new-lineage kept beside it", async () => {
    const { cluster, pgkit } = await both();
    const old = await pgkit.json<Done>(enableArchive);
    const { systemId: before } = old.lineage;
    await makeAnew(cluster);
    const now = await cluster.psql("SELECT system_identifier FROM pg_control_system()");
    const refused = await refusal(pgkit, enableArchive);
    expect(refused).toMatchObject({ status: 21, code: "system-mismatch" });
    for (const part of [before, now, "without any WAL yet", "--new-lineage"]) expect(refused.text).toContain(part);
    expect(await cluster.psql("SHOW archive_mode")).toBe("off");
    const done = await pgkit.json<Done>([...enableArchive, "--new-lineage"]);
    expect(done.lineage).toEqual({ systemId: now, new: true, others: [before] });
    expect((await pgkit.json<Done>(enableArchive)).lineage).toEqual({ systemId: now, new: false, others: [before] });
    const { stored } = await pgkit.json<{ stored: { lineages: { systemId: string }[] }[] }>(["wal", "status"]);
    expect(stored[0]?.lineages.map(({ systemId }) => systemId)).toEqual([before, now]);
  });
});

/** Another server under the same address and with the same users, as after a loss of the machine. */
async function makeAnew(cluster: Cluster): Promise<void> {
  const { binDir, dataDir, runAs, password } = cluster;
  await cluster.stop();
  await rm(dataDir, { recursive: true });
  await initServer({ binDir, dataDir, runAs, password, sync: false });
  await cluster.restart();
}
