import { chown, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { openSession } from "../../src/postgres/session.ts";
import { checkVersion } from "../../src/prove/checks/programs.ts";
import { preparedTransactions } from "../../src/prove/checks/server.ts";
import { ledger } from "../../src/prove/ledger.ts";
import { makeCertificate } from "../support/certificate.ts";
import { type Cluster, startCluster, withCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { checked, instanceOn } from "./support.ts";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ settings: { max_prepared_transactions: "5", autovacuum: "off" } });
  await cluster.psql("CREATE DATABASE app TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

const find = async (check: string) => (await checked({ instances: [instanceOn(cluster)] })).of(check);
const watch = { clock: systemClock, signal: new AbortController().signal, deadlineMs: 10_000 };

/** A name that resolves to this machine but does not say so: it stands for a server elsewhere. */
const elsewhere = "127.1";

describe("pgkit check of a server's state", () => {
  it("warns of collations that changed under a database, until its remedy has run", async () => {
    expect(await find("collations")).toMatchObject([{ level: "ok" }]);
    await cluster.psql("UPDATE pg_database SET datcollversion = '1.1' WHERE datname = 'app'");
    const [found] = await find("collations");
    expect(found).toMatchObject({
      level: "warning",
      message: expect.stringContaining("app was made with collations of version 1.1"),
    });
    const remedy = found?.remedy?.replace(/^in app: /, "") ?? "";
    for (const statement of remedy.split("; ")) await cluster.psql(statement, "app");
    expect(await find("collations")).toMatchObject([{ level: "ok" }]);
  });

  it("names an invalid index, until its remedy has run", async () => {
    await cluster.psql('CREATE TABLE t (a int); CREATE INDEX "an Index" ON t (a)', "app");
    await cluster.psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '\"an Index\"'::regclass", "app");
    const [found] = await find("indexes");
    expect(found).toMatchObject({
      level: "warning",
      subject: "database shared/app",
      message: 'invalid indexes: "public"."an Index"',
    });
    await cluster.psql(found?.remedy?.replace(/, or drop them$/, "") ?? "", "app");
    expect(await find("indexes")).toEqual([]);
  });

  it("names the database that a cut restore left, until its remedy has run", async () => {
    await cluster.psql("CREATE DATABASE app_restoring");
    await cluster.psql(
      "ALTER DATABASE app_restoring SET application_name TO 'pgkit.restoring=app-20261121T020000Z-3f9a'",
    );
    const [found] = await find("cut restores");
    expect(found).toMatchObject({ level: "warning", message: expect.stringContaining("app_restoring") });
    await cluster.psql(found?.remedy?.replace(/; the next restore.*$/, "") ?? "");
    expect(await find("cut restores")).toMatchObject([{ level: "ok" }]);
  });

  it("names a prepared transaction that hangs, and not one of this minute", async () => {
    await cluster.psql("BEGIN; CREATE TABLE p (a int); PREPARE TRANSACTION 'it''s'", "app");
    expect(await find("prepared transactions")).toMatchObject([{ level: "ok" }]);
    const book = ledger("instance shared", watch);
    const session = await openSession(await instanceOn(cluster).connection());
    await book.run("prepared transactions", (found) => preparedTransactions(session, found, 0));
    await session.close();
    const [found] = book.findings();
    expect(found).toMatchObject({ level: "warning", message: expect.stringContaining("it's in app") });
    await cluster.psql(found?.remedy?.split(", or ")[1] ?? "", "app");
    expect(await cluster.psql("SELECT count(*) FROM pg_prepared_xacts")).toBe("0");
  });

  it.each([
    [1_200_000_000, "warning", 0],
    [1_900_000_000, "error", 40],
  ] as const)("a database %i transactions old is a %s", async (age, level, status) => {
    await cluster.psql(
      `UPDATE pg_database SET datfrozenxid = ((2::numeric ^ 32 + txid_current()::numeric - ${age}) % (2::numeric ^ 32))::text::xid WHERE datname = 'app'`.replace(
        "::text::xid",
        "::bigint::text::xid",
      ),
    );
    const result = await checked({ instances: [instanceOn(cluster)] });
    await cluster.psql(
      "UPDATE pg_database SET datfrozenxid = (SELECT datfrozenxid FROM pg_database WHERE datname = 'template1') WHERE datname = 'app'",
    );
    expect(result.of("wraparound")).toMatchObject([
      { level, message: expect.stringContaining("the oldest transaction of app") },
    ]);
    expect(result.status).toBe(status);
  });

  it("knows which majors are in support", async () => {
    const levels = await Promise.all(
      [14, 15, 18, 19].map(async (major) => {
        const book = ledger("instance shared", watch);
        await checkVersion(book, { major, version: `${major}.1` });
        return book.findings().map(({ level }) => level);
      }),
    );
    expect(levels).toEqual([["error"], ["ok"], ["ok"], ["warning"]]);
  });

  it("takes a standby for what it is: good to back up, nothing to restore into", async () => {
    await withCluster({}, async (standby) => {
      await standby.stop();
      const signal = join(standby.dataDir, "standby.signal");
      await writeFile(signal, "");
      if (standby.runAs !== undefined) await chown(signal, standby.runAs.uid, standby.runAs.gid);
      await standby.restart();
      const result = await checked({ instances: [instanceOn(standby)] });
      expect(result.of("standby")).toMatchObject([
        { level: "warning", message: expect.stringContaining("nothing can be restored into it") },
      ]);
      expect(result.status).toBe(0);
    });
  });
});

describe("pgkit check of the way to a server", () => {
  it("warns where the network can read along, and where somebody in between can make it so", async () => {
    const tls = async (sslMode: string, host?: string) =>
      (await checked({ instances: [instanceOn(cluster, { sslMode, ...(host && { host }) })] })).of("tls");
    expect(await tls("prefer")).toMatchObject([{ level: "ok" }]);
    expect(await tls("prefer", elsewhere)).toMatchObject([
      { level: "warning", message: expect.stringContaining("not encrypted") },
    ]);
    await makeCertificate(cluster);
    await cluster.restart({ ssl: "on" });
    expect(await tls("disable", elsewhere)).toMatchObject([
      { level: "warning", message: expect.stringContaining("not encrypted") },
    ]);
    expect(await tls("prefer", elsewhere)).toMatchObject([
      { level: "warning", message: expect.stringContaining("sslmode=prefer goes on without") },
    ]);
    expect(await tls("require", elsewhere)).toMatchObject([
      { level: "ok", message: expect.stringContaining("TLSv1.3") },
    ]);
  });

  it("warns of an MD5 password and of a door without one", async () => {
    const hba = join(cluster.dataDir, "pg_hba.conf");
    const text = await readFile(hba, "utf8");
    await writeFile(hba, `host all trusty all trust\nhost all old all md5\n${text}`);
    await cluster.psql(
      "SET password_encryption = 'md5'; CREATE ROLE old SUPERUSER LOGIN PASSWORD 'secret'; CREATE ROLE trusty SUPERUSER LOGIN; SELECT pg_reload_conf()",
    );
    const authentication = async (user: string, host: string) =>
      (await checked({ instances: [instanceOn(cluster, { user, password: "secret", host })] })).of("authentication");
    expect(await authentication("old", "127.0.0.1")).toMatchObject([
      { level: "warning", message: expect.stringContaining("MD5"), remedy: expect.stringContaining("scram-sha-256") },
    ]);
    expect(await authentication("trusty", "127.0.0.1")).toMatchObject([{ level: "ok" }]);
    const { connection, ...rest } = instanceOn(cluster, { user: "trusty", host: elsewhere });
    const without = { ...rest, connection: async () => ({ ...(await connection()), password: undefined }) };
    const open = (await checked({ instances: [without] })).of("authentication");
    expect(open).toMatchObject([{ level: "warning", message: "the server lets trusty in without a password" }]);
    await cluster.psql("ALTER SYSTEM SET password_encryption = 'md5'");
    await cluster.psql("SELECT pg_reload_conf()");
    await eventually(async () =>
      expect(await authentication("trusty", "127.0.0.1")).toMatchObject([
        { level: "warning", message: "the server stores new passwords as MD5 hashes" },
      ]),
    );
  });
});
