import { once } from "node:events";
import { chmod, copyFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { checked, emptyFolder, instanceOn, repositoryOf } from "./support.ts";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ settings: { max_prepared_transactions: "5" } });
  await cluster.psql("CREATE DATABASE app");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

describe("pgkit check of an instance", () => {
  it("finds a superuser's server fit, tells which databases are backed up, and warns of missing checksums", async () => {
    await cluster.psql("CREATE DATABASE scratch");
    const result = await checked({
      instances: [instanceOn(cluster, { databases: { include: undefined, exclude: ["scr*"] } })],
    });
    expect(result.status).toBe(0);
    expect(result.of("connection")).toMatchObject([{ level: "ok", subject: "instance shared" }]);
    expect(result.of("databases")).toMatchObject([
      {
        level: "ok",
        message: expect.stringMatching(
          /^2 to back up: app, postgres, without scratch$|^2 .*postgres, app, without scratch$/,
        ),
      },
    ]);
    expect(result.problems()).toEqual([expect.stringMatching(/^checksums: .*no checksums/)]);
    expect(result.of("checksums")[0]?.remedy).toContain("pg_checksums --enable");
    await cluster.psql("DROP DATABASE scratch");
  });

  it("tells one who is no superuser exactly what is missing, and its remedies, run as they are, mend it", async () => {
    await cluster.psql("CREATE ROLE keeper LOGIN PASSWORD 'a keeper''s password'");
    await cluster.psql(`CREATE DATABASE "we""ird-Ä"`);
    await cluster.psql(
      `REVOKE CONNECT ON DATABASE "we""ird-Ä" FROM PUBLIC; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO keeper`,
    );
    await cluster.psql(
      `CREATE SCHEMA closed; CREATE TABLE closed.a (id serial); CREATE TABLE "Ta ble" (id int);
       CREATE TABLE rows_of_others (id int); ALTER TABLE rows_of_others ENABLE ROW LEVEL SECURITY;
       GRANT SELECT ON rows_of_others TO keeper; SELECT lo_from_bytea(0, 'large')`,
      "app",
    );
    const instances = [instanceOn(cluster, { user: "keeper", password: "a keeper's password" })];
    const dump = () => dumpAs("keeper", "a keeper's password", "app");
    await expect(dump()).rejects.toThrow();
    const before = await checked({ instances });
    expect(before.status).toBe(12);
    const inApp = before.of("privileges", "database shared/app");
    expect(inApp.map(({ level, message }) => [level, message])).toEqual([
      ["error", 'keeper may not read schema closed, sequence closed.a_id_seq, table closed.a, table public."Ta ble"'],
      ["error", "row level security hides rows of public.rows_of_others from keeper, so that pg_dump fails"],
      ["error", "keeper may not read 1 large object(s), which pg_read_all_data does not cover"],
    ]);
    expect(before.of("privileges", 'database shared/we"ird-Ä')).toMatchObject([
      { level: "error", remedy: 'GRANT CONNECT ON DATABASE "we""ird-Ä" TO "keeper"' },
    ]);
    expect(before.of("backup privileges")).toMatchObject([
      { level: "warning", message: expect.stringContaining("SCRAM") },
    ]);
    expect(before.of("restore privileges")).toMatchObject([{ level: "warning" }]);

    for (const { check, remedy = "", subject } of before.findings.filter(({ check }) => check.endsWith("privileges"))) {
      const inDatabases =
        check === "backup privileges"
          ? ["postgres", "app", 'we"ird-Ä']
          : [subject.endsWith("/app") ? "app" : "postgres"];
      for (const database of inDatabases) await cluster.psql(remedy.replace(/^in each: /, ""), database);
    }
    const after = await checked({ instances });
    expect(after.problems()).toEqual([expect.stringMatching(/^checksums: /)]);
    expect(after.of("backup privileges")).toMatchObject([
      { level: "ok", message: "keeper may read all of 3 database(s)" },
    ]);
    await dump();
    await cluster.psql('DROP DATABASE "we""ird-Ä"');
  });

  it("names a wrong password, a server that is not there and one that is stopped, and goes on with the rest", async () => {
    const repositories = [repositoryOf(memoryStore())];
    const wrong = await checked({ instances: [instanceOn(cluster, { password: "wrong" })], repositories });
    expect(wrong.status).toBe(12);
    expect(wrong.of("connection")).toMatchObject([
      { level: "error", code: "postgres-denied", remedy: expect.any(String) },
    ]);
    expect(wrong.of("objects")).toMatchObject([{ level: "ok" }]);
    const unset = instanceOn(cluster, {
      connection: () => Promise.reject(new PgkitError("config", "the variable X is not set")),
    });
    expect((await checked({ instances: [unset] })).status).toBe(2);
    await cluster.stop();
    const stopped = await checked({ instances: [instanceOn(cluster)], repositories });
    await cluster.restart();
    expect(stopped.status).toBe(14);
    expect(stopped.of("objects")).toMatchObject([{ level: "ok" }]);
  });

  it("gives up on a server that says nothing, and on one that falls silent half-way", async () => {
    await using silent = await proxyTo(cluster.port, "");
    const url = (port: number) => ({
      programs: cluster.programs,
      url: () => cluster.url().replace(`:${cluster.port}/`, `:${port}/`),
    });
    const never = await checked({ instances: [instanceOn(url(silent.port))], deadlineMs: 700 });
    expect(never.problems()).toEqual(["connection: no answer within 0.7 s"]);
    expect(never.status).toBe(14);
    await using halfWay = await proxyTo(cluster.port, "pg_prepared_xacts");
    const later = await checked({
      instances: [instanceOn(url(halfWay.port), { sslMode: "disable" })],
      deadlineMs: 3_000,
    });
    expect(later.of("wraparound")).toMatchObject([{ level: "ok" }]);
    expect(later.of("prepared transactions")).toMatchObject([{ level: "warning", message: "no answer within 3.0 s" }]);
    expect(later.of("cut restores")).toMatchObject([{ message: "not checked: the connection was lost" }]);
  });

  it("tells of one database that does not answer while the others do, and leaves no session behind", async () => {
    const holder = await cluster.connect("app");
    await holder.query("BEGIN; LOCK TABLE pg_index IN ACCESS EXCLUSIVE MODE");
    const result = await checked({ instances: [instanceOn(cluster)], deadlineMs: 2_000 });
    await holder.end();
    expect(result.of("backup privileges")).toMatchObject([{ level: "ok" }]);
    expect(result.of("privileges", "database shared/app")).toMatchObject([
      { level: "error", code: "postgres-unreachable" },
    ]);
    expect(result.problems().filter((each) => each.includes("postgres"))).toEqual([]);
    await eventually(async () =>
      expect(await cluster.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgkit check'")).toBe(
        "0",
      ),
    );
  });

  it("says when no database would be backed up, and when a pattern fits none", async () => {
    const none = await checked({ instances: [instanceOn(cluster, { databases: { include: ["x*"], exclude: [] } })] });
    expect(none.of("databases")).toMatchObject([{ level: "error", remedy: expect.stringContaining("app") }]);
    expect(none.status).toBe(2);
    const typo = await checked({
      instances: [instanceOn(cluster, { databases: { include: ["app", "ap"], exclude: [] } })],
    });
    expect(typo.of("databases")).toMatchObject([{ level: "warning", message: expect.stringContaining("ap") }]);
  });

  it("misses a client program by its name, and the server's only for verify --deep", async () => {
    const binDir = await emptyFolder();
    await copyFile(join(cluster.binDir, "pg_dump"), join(binDir, "pg_dump"));
    await chmod(join(binDir, "pg_dump"), 0o755);
    const half = instanceOn(cluster, {
      programsFor: async (_, { server }) => {
        if (server) throw new PgkitError("tool-missing", "the server programs are not installed", { hint: "install" });
        return { ...cluster.programs, binDir };
      },
    });
    const result = await checked({ instances: [half] });
    expect(result.status).toBe(30);
    expect(result.of("programs")).toMatchObject([
      {
        level: "error",
        message: expect.stringContaining("no pg_restore, psql, vacuumdb"),
        remedy: `install the package postgresql-client-${cluster.major}`,
      },
    ]);
    expect(result.of("server programs")).toMatchObject([{ level: "warning" }]);
  });

  it("warns when a backup may not get the connections it wants", async () => {
    const tight = await checked({ instances: [instanceOn(cluster, { connections: 200 })] });
    expect(tight.of("connections")).toMatchObject([
      { level: "warning", remedy: expect.stringContaining("instances.shared.connections") },
    ]);
  });

  it("warns of a clock that is not the server's", async () => {
    const { systemClock } = await import("../../src/lib/time.ts");
    const clock = { ...systemClock, now: () => new Date(Date.now() + 180_000) };
    const result = await checked({ instances: [instanceOn(cluster)], clock });
    expect(result.of("clock")).toMatchObject([{ level: "warning", message: expect.stringContaining("3m ahead of") }]);
  });
});

async function dumpAs(user: string, password: string, database: string): Promise<void> {
  const { host, port } = cluster;
  const dbname = `host=${host} port=${port} user=${user} password='${password.replaceAll("'", "\\'")}' dbname=${database}`;
  await cluster.program("pg_dump", ["--format=plain", dbname]);
}

/** Passes everything on until the client says `word`; then nothing more, in either direction. */
async function proxyTo(port: number, word: string) {
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("error", () => undefined);
    }
    let silent = false;
    client.on("data", (bytes) => {
      silent ||= bytes.includes(word);
      if (!silent) upstream.write(bytes);
    });
    upstream.on("data", (bytes) => void (silent || client.write(bytes)));
    client.on("close", () => upstream.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
