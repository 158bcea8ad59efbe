import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Ran, RunOptions } from "../cli/run.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type JsonResult, type Pgkit, pgkitFor } from "../support/pgkit.ts";
import { childrenNamed } from "../support/processes.ts";

let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({
    whole: { cluster },
    parts: { cluster, settings: ["wholeBelow: 1"] },
  });
  await cluster.psql("CREATE DATABASE big");
  await cluster.psql(
    `CREATE TABLE big AS SELECT g, repeat(md5(g::text), 40) AS a FROM generate_series(1, 60000) g;
     CREATE TABLE big_too AS SELECT * FROM big; CREATE TABLE small AS SELECT 1 AS a`,
    "big",
  );
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

describe.each(["whole", "parts"])("a backup as %s that is cut in the middle of a table", (instance) => {
  afterEach(async () => {
    expect(await filesIn(pgkit.repository, "files")).toEqual([]);
    expect(await filesIn(pgkit.repository, "backups")).toEqual([]);
    expect(await childrenNamed("pg_dump")).toEqual([]);
    await eventually(async () => expect(await sessions()).toBe("0"));
  });

  it("because pg_dump was killed, is no backup and leaves nothing", async () => {
    const ran = await cut(instance, async () => {
      for (const pid of (await childrenNamed("pg_dump")).slice(0, 1)) process.kill(pid, "SIGKILL");
    });
    expect(ran).toMatchObject({ status: 30, stderr: expect.stringContaining("killed by SIGKILL") });
  });

  it("because the server ended pg_dump's session, says that the server was not reachable", async () => {
    const ran = await cut(instance, async () => {
      await cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %'");
    });
    expect(ran.status).toBe(14);
  });

  it("because the server ended the session that holds the snapshot, says that the server was not reachable", async () => {
    const ran = await cut(instance, async () => {
      const ours = "datname = 'big' AND application_name = 'pgkit' AND query NOT LIKE 'COPY %'";
      await cluster.psql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${ours}`);
    });
    expect(ran.status).toBe(14);
  });

  it("because it was stopped, leaves no session behind either", async () => {
    let stop: () => void = () => undefined;
    const ran = await cut(instance, async () => stop(), {
      onStart: ({ signal }) => {
        stop = () => signal("SIGINT");
      },
    });
    expect(ran.status).toBe(130);
  });

  it("because the server was stopped at once, is told from a failure of pg_dump's", async () => {
    const ran = await cut(instance, () => cluster.stop("immediate"));
    expect(ran.status).toBe(14);
    await cluster.restart();
  });
});

describe("of several databases", () => {
  it("the one that is damaged is named, and the others are backed up and restore", async () => {
    for (const name of ["good", "broken", "fine"]) {
      await cluster.psql(`CREATE DATABASE ${name}`);
      await cluster.psql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS a", name);
    }
    await damage("broken", "t");
    const ran = await pgkit.run(["backup", "logical", "good", "broken", "fine", "--instance", "whole", "--json"]);
    expect(ran.status).toBe(3);
    const { backups, failures } = JSON.parse(ran.stdout) as JsonResult;
    expect(backups.map(({ database }) => database).sort()).toEqual(["fine", "good"]);
    expect(failures).toMatchObject([{ database: "broken", message: expect.stringMatching(/invalid page in block 0/) }]);
    const listed = (await pgkit.json(["list"])).backups.map(({ id }) => id);
    expect(listed.sort()).toEqual(backups.map(({ id }) => id).sort());
    expect((await filesIn(pgkit.repository, "files")).some((file) => file.includes("broken"))).toBe(false);
    await pgkit.json(["restore", "good", "--as", "again", "--instance", "whole"]);
    await cluster.psql("DROP DATABASE broken");
  });

  it("all of them failing is the failure of the run, with each named", async () => {
    await cluster.psql("CREATE DATABASE closed ALLOW_CONNECTIONS false");
    await cluster.psql("CREATE DATABASE shut ALLOW_CONNECTIONS false");
    const ran = await pgkit.run(["backup", "logical", "closed", "shut", "--instance", "whole"]);
    expect(ran.status).toBe(30);
    expect(ran.stderr).toMatch(/closed .*not currently accepting connections[\s\S]*shut .*not currently accepting/);
  });

  it("one that is not there is refused before anything is done, with those that are", async () => {
    const ran = await pgkit.run(["backup", "logical", "good", "godo", "--instance", "whole"]);
    expect(ran).toMatchObject({ status: 10, stdout: "" });
    expect(ran.stderr).toMatch(/there is no database godo[\s\S]*good/);
  });

  it("one that a cut DROP DATABASE has left is told of, and fails nothing", async () => {
    await cluster.psql("CREATE DATABASE half_dropped");
    await cluster.psql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_dropped'");
    const ran = await pgkit.run(["backup", "logical", "--instance", "whole", "--json"]);
    expect(ran.status).toBe(0);
    expect(ran.stderr).toContain("half_dropped is not backed up");
    const names = (JSON.parse(ran.stdout) as JsonResult).backups.map(({ database }) => database);
    expect(names.sort()).toEqual(["again", "big", "fine", "good", "postgres"]);
    await cluster.psql("DROP DATABASE half_dropped");
  });
});

/** Backs up, and does something once pg_dump is in the middle of a table. */
async function cut(instance: string, act: () => Promise<void>, options: RunOptions = {}): Promise<Ran> {
  const running = pgkit.run(["backup", "logical", "big", "--instance", instance, "--json"], options);
  const watcher = await cluster.connect();
  watcher.on("error", () => undefined);
  await eventually(async () => {
    const { rows } = await watcher.query("SELECT FROM pg_stat_progress_copy WHERE bytes_processed > 2000000");
    expect(rows.length).toBeGreaterThan(0);
  });
  await watcher.end();
  await act();
  return running;
}

async function sessions(): Promise<string> {
  return cluster.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgkit'");
}

async function filesIn(repository: string, folder: string): Promise<string[]> {
  const entries = await readdir(join(repository, folder), { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Overwrites the first page of a table. */
async function damage(database: string, table: string): Promise<void> {
  const path = await cluster.psql(`CHECKPOINT; SELECT pg_relation_filepath('${table}')`, database);
  await cluster.stop();
  const file = await open(join(cluster.dataDir, path), "r+");
  await file.write(Buffer.alloc(8192, 0xff), 0, 8192, 0);
  await file.close();
  await cluster.restart();
}
