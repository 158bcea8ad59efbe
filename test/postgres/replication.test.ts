import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import type { Connection } from "../../src/postgres/connection.ts";
import { parseConnection } from "../../src/postgres/connection.ts";
import { openReplication, withReplication } from "../../src/postgres/replication.ts";
import { type BaseBackupCommand, receiveBaseBackup } from "../../src/postgres/replication-base.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
  await cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 300000) i");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

function connectionAs(user = cluster.superuser, password = cluster.password, query = ""): Connection {
  return parseConnection(`postgresql://${user}@${cluster.host}:${cluster.port}/postgres${query}`, secret(password));
}

const command: BaseBackupCommand = { label: "test", checkpoint: "fast", wal: false, compression: undefined };

describe("a replication connection", () => {
  test("tells system id, timeline and position", async () => {
    const systemId = await cluster.psql("SELECT system_identifier FROM pg_control_system()");
    await withReplication(connectionAs(), {}, async (replication) => {
      expect(await replication.identify()).toEqual({ systemId, timeline: 1, lsn: expect.any(BigInt) });
    });
  });

  test("of a user without REPLICATION is refused with the ALTER ROLE that helps", async () => {
    await cluster.psql("CREATE ROLE plain LOGIN PASSWORD 'plain'");
    await expect(openReplication(connectionAs("plain", "plain"))).rejects.toMatchObject({
      code: "postgres-denied",
      hint: 'as a superuser: ALTER ROLE "plain" REPLICATION;',
    });
  });

  test("that pg_hba.conf has no line for is refused with that line", async () => {
    const path = join(cluster.dataDir, "pg_hba.conf");
    const whole = await readFile(path, "utf8");
    await writeFile(path, whole.replaceAll(/^.*\breplication\b.*$/gm, ""));
    await cluster.psql("SELECT pg_reload_conf()");
    await eventually(async () => {
      const opened = openReplication(connectionAs());
      await expect(opened.finally(async () => void (await opened).close())).rejects.toMatchObject({
        code: "postgres-denied",
        message: expect.stringContaining("no pg_hba.conf entry for replication"),
        hint: expect.stringContaining('host replication "postgres" ADDRESS scram-sha-256'),
      });
    });
    await writeFile(path, whole);
    await appendFile(path, "\n");
    await cluster.psql("SELECT pg_reload_conf()");
    await eventually(async () => await (await openReplication(connectionAs())).close());
  });

  test("beyond max_wal_senders is refused with what to do", async () => {
    const open = await Promise.all(Array.from({ length: 10 }, () => openReplication(connectionAs())));
    await expect(openReplication(connectionAs())).rejects.toMatchObject({
      code: "server-settings",
      message: expect.stringContaining("max_wal_senders"),
      hint: expect.stringContaining("pg_stat_replication"),
    });
    await Promise.all(open.map((replication) => replication.close()));
  });

  test("with a wrong password is postgres-denied, and the password is in no message", async () => {
    const refused = openReplication(connectionAs("postgres", "not-it-at-all"));
    await expect(refused).rejects.toMatchObject({ code: "postgres-denied" });
    await expect(refused).rejects.not.toMatchObject({ message: expect.stringContaining("not-it-at-all") });
  });

  test("that is aborted leaves no walsender behind", async () => {
    const stop = new AbortController();
    const replication = await openReplication(connectionAs(), { signal: stop.signal });
    const received = receiveBaseBackup(
      replication,
      { ...command, maxRate: 1024 ** 2 },
      {
        onStart: () => undefined,
        onProgress: () => stop.abort(new Error("stopped by the test")),
        onArchive: async ({ content }) => {
          for await (const _ of content);
        },
      },
    );
    await expect(received).rejects.toThrow("stopped by the test");
    await replication.close();
    await noSenders();
  });
});

describe("BASE_BACKUP", () => {
  test("waits while its taker does, with no more than a few MiB in between", async () => {
    await withReplication(connectionAs(), {}, async (replication) => {
      let sent = 0;
      const taken: string[] = [];
      await receiveBaseBackup(replication, command, {
        onStart: ({ expectedBytes }) => expect(expectedBytes).toBeGreaterThan(20 * 1024 ** 2),
        onProgress: (bytes) => {
          sent = bytes;
        },
        onArchive: async ({ name, content }) => {
          taken.push(name);
          let first = true;
          for await (const piece of content) {
            if (!first || name !== "base.tar") continue;
            first = false;
            expect(piece.length).toBe(256 * 1024);
            await eventually(async () => expect(await waitsForUs()).toBe("ClientWrite"));
            // What is buffered by the two sockets and here.
            expect(sent).toBeLessThan(16 * 1024 ** 2);
          }
        },
      });
      expect(taken).toEqual(["base.tar", "backup_manifest"]);
      expect(sent).toBeGreaterThan(30 * 1024 ** 2);
    });
  });

  test("that the server breaks off never looks like the end", async () => {
    await withReplication(connectionAs(), {}, async (replication) => {
      let ended = false;
      const received = receiveBaseBackup(
        replication,
        { ...command, maxRate: 4 * 1024 ** 2 },
        {
          onStart: () => void cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_basebackup"),
          onProgress: () => undefined,
          onArchive: async ({ content }) => {
            for await (const _ of content);
            ended = true;
          },
        },
      );
      await expect(received).rejects.toMatchObject({ code: "postgres-unreachable" });
      expect(ended).toBe(false);
    });
    await noSenders();
  });

  test("with an option that the server refuses fails with its answer, and the connection goes on", async () => {
    await withReplication(connectionAs(), {}, async (replication) => {
      const refused = receiveBaseBackup(
        replication,
        { ...command, compression: { level: 99, workers: 0 } },
        {
          onStart: () => undefined,
          onProgress: () => undefined,
          onArchive: async () => undefined,
        },
      );
      await expect(refused).rejects.toMatchObject({ code: "postgres-failed" });
      expect(await replication.identify()).toMatchObject({ timeline: 1 });
    });
  });
});

async function waitsForUs(): Promise<string> {
  return await cluster.psql("SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'walsender'");
}

async function noSenders(): Promise<void> {
  await eventually(async () => {
    expect(await cluster.psql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'")).toBe("0");
  });
}
