import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { initServer } from "../../src/postgres/init-server.ts";
import { unprivilegedUser } from "../../src/postgres/run-as.ts";
import { startServer } from "../../src/postgres/server.ts";
import { startCluster, testPrograms, withCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";

const serverModule = new URL("../../src/postgres/server.ts", import.meta.url).href;
const { binDir } = await testPrograms();
const runAs = await unprivilegedUser();
let folder = "";

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-server-"));
  if (runAs) await chown(folder, runAs.uid, runAs.gid);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

describe("a server on a data directory", () => {
  it("is made, started, asked and stopped, and leaves neither password file nor socket behind", async () => {
    const dataDir = join(folder, "data");
    const settings = { max_connections: "17", "pgkit.note": "it's \\ here" };
    vi.stubEnv("TMPDIR", folder);
    const { password } = await initServer({ binDir, dataDir, runAs, settings, checksums: true, sync: false });
    const server = await startServer({ binDir, dataDir, runAs });
    expect(server.url).toBeUndefined();
    expect((await stat(server.socketDir)).mode & 0o777).toBe(0o700);
    const socket = { host: server.socketDir, port: server.port };
    expect(await ask(socket, password, "SELECT current_setting('max_connections')")).toBe("17");
    expect(await ask(socket, password, "SELECT current_setting('pgkit.note')")).toBe("it's \\ here");
    expect(await ask(socket, password, "SHOW data_checksums")).toBe("on");
    await expect(ask(socket, "wrong", "SELECT 1")).rejects.toThrow("password authentication failed");
    await server.stop();
    expect(await stat(join(dataDir, "postmaster.pid")).catch((error) => error.code)).toBe("ENOENT");
    expect(await readdir(folder)).toEqual(["data"]);
    await server.stop();
  });

  it("refuses a folder with something in it, and leaves that alone", async () => {
    await writeFile(join(folder, "precious"), "keep");
    await expect(initServer({ binDir, dataDir: folder, runAs })).rejects.toMatchObject({ code: "refused-overwrite" });
    expect(await readFile(join(folder, "precious"), "utf8")).toBe("keep");
  });

  it("refuses a data directory on which a server runs, which goes on", async () => {
    await withCluster({}, async (cluster) => {
      const second = startServer({ binDir: cluster.binDir, dataDir: cluster.dataDir, runAs });
      await expect(second).rejects.toMatchObject({ code: "refused-overwrite" });
      expect(await cluster.psql("SELECT 1")).toBe("1");
    });
  });

  it("says what the server's log ends with when it does not come up", async () => {
    await withCluster({}, async (cluster) => {
      await cluster.stop();
      const settings = { shared_preload_libraries: "no_such_library" };
      const start = startServer({ binDir: cluster.binDir, dataDir: cluster.dataDir, runAs, settings });
      await expect(start).rejects.toMatchObject({
        code: "tool-failed",
        message: expect.stringContaining('could not access file "no_such_library"'),
      });
    });
  });

  it("says which user lacks the way when its log cannot be written", async () => {
    await using cluster = await startCluster();
    await cluster.stop();
    const closed = await mkdtemp(join(folder, "closed-"));
    await chmod(closed, 0o700);
    const start = startServer({
      binDir,
      dataDir: cluster.dataDir,
      runAs,
      log: join(closed, "log"),
      readyWithinMs: 5_000,
    });
    if (runAs === undefined) return void (await (await start).stop());
    await expect(start).rejects.toMatchObject({
      code: "tool-failed",
      message: expect.stringContaining(`the user of id ${runAs.uid}, who is to run it, cannot write ${closed}`),
    });
  });

  it("says what initdb said when it fails", async () => {
    const made = initServer({ binDir, dataDir: join(folder, "data"), runAs, locale: "xx_XX.UTF-8" });
    await expect(made).rejects.toMatchObject({
      code: "tool-failed",
      message: expect.stringContaining('invalid locale name "xx_XX.UTF-8"'),
    });
  });

  it("recovers after every process of it was killed, from a pid file left behind", async () => {
    await withCluster({ durable: true }, async (cluster) => {
      await cluster.psql("CREATE TABLE t AS SELECT 1 AS a");
      await cluster.kill9();
      expect(await readFile(join(cluster.dataDir, "postmaster.pid"), "utf8")).toContain(`${cluster.port}`);
      await cluster.restart();
      expect(await cluster.psql("SELECT a FROM t")).toBe("1");
    });
  });

  it("stops by itself when the process that started it is killed", async () => {
    const holder = fileURLToPath(new URL("../support/hold-cluster.ts", import.meta.url));
    const child = spawn(process.execPath, [holder], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = await once(child.stdout, "data");
    const held: { pid: number; folder: string; socketDir: string } = JSON.parse(String(line));
    child.kill("SIGKILL");
    await eventually(() => expect(() => process.kill(held.pid, 0)).toThrow("ESRCH"));
    await Promise.all([held.folder, held.socketDir].map((path) => rm(path, { recursive: true, force: true })));
  });

  it("stays when it was told to outlive the process that started it", async () => {
    await withCluster({}, async (cluster) => {
      await cluster.stop();
      const start = `const { startServer } = await import(${JSON.stringify(serverModule)});
        const { pid, socketDir } = await startServer(${JSON.stringify({ binDir, dataDir: cluster.dataDir, runAs, lifetime: "outlives" })});
        process.stdout.write(JSON.stringify({ pid, socketDir }));`;
      const child = spawn(process.execPath, ["--input-type=module", "-e", start], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const said: { pid: number; socketDir: string } = JSON.parse(await text(child.stdout));
      try {
        const socket = { host: said.socketDir, port: 5432 };
        expect(await ask(socket, cluster.password, "SELECT 1")).toBe("1");
      } finally {
        process.kill(said.pid, "SIGQUIT");
        await eventually(() => expect(() => process.kill(said.pid, 0)).toThrow("ESRCH"));
        await rm(said.socketDir, { recursive: true, force: true });
      }
    });
  });

  it("refuses to run as root in words that help", async () => {
    const dataDir = join(folder, "data");
    vi.spyOn(process, "getuid").mockReturnValue(0);
    await expect(initServer({ binDir, dataDir })).rejects.toThrow("cannot run as root");
    await expect(startServer({ binDir, dataDir })).rejects.toThrow("cannot run as root");
    vi.restoreAllMocks();
  });
});

it("a cluster for tests is a server of its own, and gone when it is disposed of", async () => {
  const cluster = await startCluster();
  expect(await cluster.psql("SHOW server_version")).toMatch(`${cluster.major}.`);
  const client = await cluster.connect();
  expect((await client.query("SHOW fsync")).rows).toEqual([{ fsync: "off" }]);
  await client.end();
  await cluster[Symbol.asyncDispose]();
  expect(() => process.kill(cluster.pid, 0)).toThrow("ESRCH");
  expect(await stat(cluster.dataDir).catch((error) => error.code)).toBe("ENOENT");
});

async function ask(server: { host: string; port: number }, password: string, sql: string): Promise<string> {
  const client = new pg.Client({ ...server, user: "postgres", password, database: "postgres" });
  await client.connect();
  try {
    const result = await client.query({ text: sql, rowMode: "array" });
    return String(result.rows[0]?.[0]);
  } finally {
    await client.end();
  }
}
