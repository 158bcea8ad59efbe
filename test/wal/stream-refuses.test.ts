import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { crc32c } from "../../src/lib/crc32c.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { newPlace } from "./stream-support.ts";

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster();
});
afterAll(() => cluster[Symbol.asyncDispose]());

describe("pgkit wal stream refuses", () => {
  test("to be the second of an instance: exit 11, and the first goes on", async () => {
    await using place = await newPlace();
    await using other = await newPlace();
    await place.configure(cluster.url());
    await other.configure(cluster.url(), [], [`repository: ${place.repository}`]);
    const first = place.stream();
    await place.caughtUp(cluster);
    const second = other.stream();
    expect(await second.ended, second.said()).toBe(11);
    expect(second.said()).toMatch(
      /another pgkit wal stream follows shared by the slot pgkit_shared: postgres from 127/,
    );
    await cluster.psql("CREATE TABLE two_streamers (n int)");
    await place.caughtUp(cluster);
    expect(await first.kill("SIGTERM")).toBe(0);
  });

  test("a repository that another streams into, by another address and slot: exit 11, naming who", async () => {
    await using place = await newPlace();
    await using other = await newPlace();
    await place.configure(cluster.url());
    await other.configure(cluster.url(), ["slot: of_its_own"], [`repository: ${place.repository}`]);
    const first = place.stream();
    await place.caughtUp(cluster);
    const second = other.stream();
    expect(await second.ended, second.said()).toBe(11);
    expect(second.said()).toMatch(/another run holds the lease wal-stream-shared .*wal stream on .*process \d+/);
    expect(await first.kill("SIGTERM")).toBe(0);
    await cluster.psql("SELECT pg_drop_replication_slot('of_its_own')");
  }, 300_000);

  test("a slot that something else uses: exit 11", async () => {
    await using place = await newPlace();
    await place.configure(cluster.url(), ["slot: taken"]);
    await cluster.psql("SELECT pg_create_physical_replication_slot('taken', true)");
    const folder = await mkdtemp(join(tmpdir(), "pgkit-receive-"));
    const env = { ...process.env, PGPASSWORD: cluster.password };
    const args = ["-h", cluster.host, "-p", `${cluster.port}`, "-U", cluster.superuser, "-D", folder, "-S", "taken"];
    const user = spawn(join(cluster.binDir, "pg_receivewal"), args, { env, stdio: "ignore" });
    try {
      await eventually(async () => {
        expect(await cluster.psql("SELECT active FROM pg_replication_slots WHERE slot_name = 'taken'")).toBe("t");
      });
      const streaming = place.stream();
      expect(await streaming.ended).toBe(11);
      expect(streaming.said()).toMatch(/the replication slot taken is in use by the server's process \d+/);
    } finally {
      const gone = new Promise((resolve) => user.once("exit", resolve));
      user.kill("SIGKILL");
      await gone;
      await rm(folder, { recursive: true, force: true });
    }
  });

  test("a user without REPLICATION: exit 12, naming the privilege", async () => {
    await cluster.psql("CREATE ROLE plain LOGIN PASSWORD 'a-secret'");
    await using place = await newPlace();
    await place.configure(cluster.url().replace(/\/\/[^@]*@/, "//plain:a-secret@"));
    const streaming = place.stream();
    expect(await streaming.ended).toBe(12);
    expect(streaming.said()).toContain("the user plain has no REPLICATION privilege");
    expect(streaming.said()).toContain('ALTER ROLE "plain" REPLICATION');
  });

  test("another server under a name that the repository knows: exit 21, naming both", async () => {
    await using place = await newPlace();
    await place.configure(cluster.url());
    const first = place.stream();
    await place.caughtUp(cluster);
    expect(await first.kill("SIGTERM")).toBe(0);
    await using anew = await startCluster();
    // initdb gives the copies of a template the same identifier.
    await anew.stop();
    await resetSystemId(anew);
    await anew.restart();
    await place.configure(anew.url());
    const second = place.stream();
    expect(await second.ended, second.said()).toBe(21);
    expect(second.said()).toMatch(/is system \d+; .* has WAL of \d+ under this name/);
    expect(second.said()).toContain("--new-lineage");
  });

  test("wal_level=minimal, and no senders: exit 2, naming each", async () => {
    await using minimal = await startCluster({ settings: { wal_level: "minimal", max_wal_senders: "0" } });
    await using place = await newPlace();
    await place.configure(minimal.url());
    const streaming = place.stream();
    expect(await streaming.ended).toBe(2);
    expect(streaming.said()).toMatch(/wal_level is minimal, and must be replica or logical; max_wal_senders is 0/);
  });

  test("a name that a logical slot has: exit 21", async () => {
    await using logical = await startCluster({ settings: { wal_level: "logical" } });
    await logical.psql("SELECT pg_create_logical_replication_slot('pgkit_shared', 'pgoutput')");
    await using place = await newPlace();
    await place.configure(logical.url());
    const streaming = place.stream();
    expect(await streaming.ended).toBe(21);
    expect(streaming.said()).toContain("the replication slot pgkit_shared is a logical one");
  });

  test("nothing for a server that is not there yet: it waits, and begins when it is", async () => {
    await using late = await startCluster();
    await late.stop();
    await using place = await newPlace();
    await place.configure(late.url());
    const streaming = place.stream();
    await eventually(async () => expect((await place.status()).state).toBe("disconnected"));
    await late.restart();
    await place.caughtUp(late);
    expect(await streaming.kill("SIGTERM")).toBe(0);
  });
});

/** One bit of pg_control's identifier is turned, its checksum made to fit, and the WAL begun anew with it. */
async function resetSystemId({ dataDir, binDir, runAs }: Cluster): Promise<void> {
  const path = join(dataDir, "global", "pg_control");
  const control = await readFile(path);
  const before = crcPlace(control);
  control[0] = (control[0] ?? 0) ^ 1;
  control.writeInt32LE(crc32c(control.subarray(0, before)) | 0, before);
  await writeFile(path, control);
  await promisify(execFile)(join(binDir, "pg_resetwal"), ["-f", dataDir], { cwd: "/", ...runAs });
}

/** Where the checksum of all that is before it stands: at another place in each major. */
function crcPlace(control: Buffer): number {
  for (let at = 200; at < 400; at += 4) {
    if ((crc32c(control.subarray(0, at)) | 0) === control.readInt32LE(at)) return at;
  }
  throw new Error("no checksum in pg_control");
}
