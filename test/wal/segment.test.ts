import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatLsn, parseLsn } from "../../src/lib/lsn.ts";
import {
  checkSegment,
  continuesFromBefore,
  firstTransaction,
  lastIn,
  lastTransaction,
  readSegmentHeader,
} from "../../src/wal/segment.ts";
import { crc32c } from "../../src/wal/segment-crc.ts";
import { type Cluster, startCluster, testPrograms } from "../support/cluster.ts";

const run = promisify(execFile);

interface Dumped {
  lsn: string;
  xid: number;
  time: string;
}

describe("transactions in WAL, against pg_waldump", () => {
  let cluster: Cluster;
  let names: string[];
  let spanning: { xid: number; segment: string };

  beforeAll(async () => {
    cluster = await startCluster({
      settings: {
        ...{ max_prepared_transactions: "4", wal_level: "logical", full_page_writes: "on", wal_keep_size: "1GB" },
        // Nothing changes any more once it is set up.
        ...{ synchronous_commit: "on", autovacuum: "off" },
      },
    });
    await cluster.psql("CREATE TABLE t (n int, filler text); CREATE TABLE gone (n int)");
    // Records over many pages, and over the ends of segments.
    for (let n = 0; n < 6; n++) {
      await cluster.psql(`INSERT INTO t SELECT ${n}, repeat(md5(i::text), 100) FROM generate_series(1, 2000) i`);
      await cluster.psql(`SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))`);
      await cluster.psql("BEGIN; INSERT INTO t VALUES (1); ROLLBACK");
    }
    await cluster.psql("BEGIN; DROP TABLE gone; SAVEPOINT a; INSERT INTO t VALUES (7); PREPARE TRANSACTION 'two'");
    await cluster.psql("COMMIT PREPARED 'two'");
    await cluster.psql("SELECT pg_switch_wal()");
    await cluster.psql("INSERT INTO t VALUES (8)");
    spanning = await commitOverTheEnd(cluster);
    await cluster.psql("SELECT pg_switch_wal()");
    // Its last transaction has an origin.
    await cluster.psql(
      "SELECT pg_replication_origin_create('o'); SELECT pg_replication_origin_session_setup('o'); INSERT INTO t VALUES (9)",
    );
    names = (await readdir(join(cluster.dataDir, "pg_wal"))).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
  });
  afterAll(async () => await cluster[Symbol.asyncDispose]());

  const segment = async (name: string) => await readFile(join(cluster.dataDir, "pg_wal", name));

  const waldump = async (...args: string[]): Promise<string> => {
    const env = { ...process.env, TZ: "UTC", LC_ALL: "C.UTF-8" };
    // It fails where the WAL ends, after it has printed all before.
    const ran = run(join(cluster.binDir, "pg_waldump"), args, { env, maxBuffer: 2 ** 28 });
    return (await ran.catch((error: { stdout: string }) => error)).stdout;
  };

  /** Where the last record of any kind begins. */
  const lastDumped = async (name: string): Promise<string> => {
    const lines = (await waldump(join(cluster.dataDir, "pg_wal", name))).trimEnd().split("\n");
    return formatLsn(parseLsn(/, lsn: ([0-9A-F/]+),/.exec(lines.at(-1) ?? "")?.[1] ?? ""));
  };

  /** The transactions of a segment, or from one to another, as the server's own program reads them, to the end of the WAL. */
  const dumped = async (...range: string[]): Promise<Dumped[]> => {
    const stdout = await waldump("--rmgr=Transaction", ...range.map((name) => join(cluster.dataDir, "pg_wal", name)));
    return stdout.split("\n").flatMap((line) => {
      const [, tx, lsn, kind, rest = ""] =
        /tx:\s+(\d+), lsn: ([0-9A-F/]+), .* desc: ((?:COMMIT|ABORT)(?:_PREPARED)?) (.*)$/.exec(line) ?? [];
      const [, prepared, time] = /^(?:(\d+): )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC/.exec(rest) ?? [];
      if (tx === undefined || lsn === undefined || kind === undefined || time === undefined) return [];
      return [{ lsn: formatLsn(parseLsn(lsn)), xid: Number(prepared ?? tx), time }];
    });
  };

  const asDumped = (found: ReturnType<typeof lastTransaction>): Dumped | undefined =>
    found && { lsn: formatLsn(found.lsn), xid: found.xid, time: found.timeText.replace("T", " ").replace("Z", "") };

  test("the last one of every segment is the one that the server's program prints last", async () => {
    let compared = 0;
    for (const name of names) {
      const bytes = await segment(name);
      if (bytes.readUInt32LE(0) === 0 || checksStale(bytes, name)) continue;
      const wanted = await dumped(name);
      expect(asDumped(lastTransaction(bytes)), name).toEqual(wanted.at(-1));
      expect(asDumped(firstTransaction(bytes)), name).toEqual(wanted[0]);
      expect(formatLsn(lastIn(bytes).recordLsn ?? 0n), name).toBe(await lastDumped(name));
      compared += wanted.length;
    }
    expect(compared).toBeGreaterThan(20);
  });

  test("a transaction whose record goes on in the next segment is found in both together, and in neither alone", async () => {
    const next = names[names.indexOf(spanning.segment) + 1] ?? "";
    const both = [await segment(spanning.segment), await segment(next)];
    const alone = both.map((bytes) => lastTransaction(bytes)?.xid);
    expect(alone).not.toContain(spanning.xid);
    expect(both.map(continuesFromBefore)).toEqual([false, true]);
    const last = (await dumped(spanning.segment, next)).at(-1);
    expect(last?.xid).toBe(spanning.xid);
    expect(asDumped(lastTransaction(Buffer.concat(both)))).toEqual(last);
  });

  test("none is found that ends after a given position", async () => {
    const name = names[0] ?? "";
    const [first, second] = await dumped(name);
    const found = lastTransaction(await segment(name), parseLsn(second?.lsn ?? ""));
    expect(asDumped(found)).toEqual(first);
  });

  test("a partial segment ends with the last record that is whole, with its zeros or without", async () => {
    const name = names[0] ?? "";
    const bytes = await segment(name);
    const wanted = await dumped(name);
    const at = wanted.at(-3);
    const start = Number(parseLsn(at?.lsn ?? "") % BigInt(bytes.length));
    // 30 bytes into the record: its header is there, its data are not.
    const cut = bytes.subarray(0, start + 30);
    const padded = Buffer.concat([cut, Buffer.alloc(bytes.length - cut.length)]);
    expect(asDumped(lastTransaction(padded))).toEqual(wanted.at(-4));
    expect(asDumped(lastTransaction(cut))).toEqual(wanted.at(-4));
    expect(lastIn(cut).recordLsn).toBeLessThan(parseLsn(at?.lsn ?? ""));
  });

  test("what an earlier use of the file left behind its end is not read", async () => {
    const name = names[0] ?? "";
    const bytes = await segment(name);
    const wanted = await dumped(name);
    const other = await segment(names[1] ?? "");
    const end = Number(parseLsn(wanted.at(-3)?.lsn ?? "") % BigInt(bytes.length));
    const recycled = Buffer.concat([bytes.subarray(0, end), other.subarray(end)]);
    expect(asDumped(lastTransaction(recycled))).toEqual(wanted.at(-4));
  });

  test("a flipped bit in a commit record is no commit", async () => {
    const name = names[0] ?? "";
    const bytes = Buffer.from(await segment(name));
    const wanted = await dumped(name);
    const at = Number(parseLsn(wanted.at(-1)?.lsn ?? "") % BigInt(bytes.length)) + 28;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    expect(asDumped(lastTransaction(bytes))).toEqual(wanted.at(-2));
  });

  test("the header tells the system, the place, the size and the major", async () => {
    const name = names[0] ?? "";
    const bytes = await segment(name);
    const systemId = (await cluster.psql("SELECT system_identifier FROM pg_control_system()")).trim();
    expect(readSegmentHeader(bytes.subarray(0, 40))).toMatchObject({ systemId, major: cluster.major, timeline: 1 });
    const lineage = { systemId, segmentBytes: bytes.length };
    expect(checkSegment(bytes, name, lineage)).toMatchObject({ segmentBytes: bytes.length, blockBytes: 8192 });
    const refuse =
      (content: Buffer, as: string, of = lineage) =>
      () =>
        checkSegment(content, as, of);
    expect(refuse(bytes, name, { ...lineage, systemId: "1" })).toThrow(/it is of system \d+, and the archive of 1/);
    expect(refuse(bytes, names[1] ?? "")).toThrow(/it begins at .*, and its name says/);
    expect(refuse(bytes.subarray(0, 8192), name)).toThrow(/it has 8192 bytes of 16777216/);
    expect(refuse(Buffer.alloc(bytes.length), name)).toThrow(/it begins with 00000000/);
    expect(refuse(bytes.subarray(0, 10), name)).toThrow(/fewer than its first header/);
    expect(refuse(bytes, name, { ...lineage, segmentBytes: 2 ** 20 })).toThrow(/segments of 16777216 bytes/);
    const ofTimeline2 = `00000002${name.slice(8)}`;
    expect(checkSegment(bytes, ofTimeline2, lineage).timeline).toBe(1);
    bytes.writeUInt32LE(3, 4);
    expect(refuse(bytes, ofTimeline2)).toThrow(/it is of timeline 3, and its name says 2/);
  });
});

test.each([1, 64])("segments of %i MB are read like those of 16", async (megabytes) => {
  const programs = await testPrograms();
  await using server = await startCluster({ settings: { wal_level: "replica" } });
  await server.stop();
  await run(join(programs.binDir, "pg_resetwal"), [`--wal-segsize=${megabytes}`, server.dataDir], {
    ...(server.runAs === undefined ? {} : { uid: server.runAs.uid, gid: server.runAs.gid }),
  });
  await server.restart({ min_wal_size: `${megabytes * 2}MB`, synchronous_commit: "on" });
  await server.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
  const xid = Number((await server.psql("INSERT INTO t VALUES (2) RETURNING pg_current_xact_id()")).split("\n")[0]);
  const name = (await server.psql("SELECT pg_walfile_name(pg_current_wal_lsn())")).trim();
  const bytes = await readFile(join(server.dataDir, "pg_wal", name));
  const systemId = (await server.psql("SELECT system_identifier FROM pg_control_system()")).trim();
  expect(checkSegment(bytes, name, { systemId, segmentBytes: megabytes * 2 ** 20 }).segmentBytes).toBe(bytes.length);
  expect(lastTransaction(bytes)?.xid).toBe(xid);
});

test("CRC-32C of the check string of its definition", () => {
  expect(crc32c(Buffer.from("1234"), Buffer.from("56789")).toString(16)).toBe("e3069283");
});

/** Commits a transaction of so many subtransactions that its record begins in one segment and ends in the next. */
async function commitOverTheEnd(cluster: Cluster): Promise<{ xid: number; segment: string }> {
  await cluster.psql("SELECT pg_switch_wal()");
  const client = await cluster.connect();
  try {
    await client.query("BEGIN");
    const { rows } = await client.query("SELECT pg_current_xact_id()::text AS xid");
    await client.query(`DO $$ BEGIN FOR i IN 1..20000 LOOP
      BEGIN INSERT INTO t VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP; END $$`);
    await client.query(`SELECT pg_logical_emit_message(true, 'test',
      repeat('x', 16777216 - ((pg_current_wal_insert_lsn() - '0/0') % 16777216)::int - 60000))`);
    const place = await client.query("SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS name");
    await client.query("COMMIT");
    return { xid: Number(rows[0].xid), segment: place.rows[0].name };
  } finally {
    await client.end();
  }
}

/** A file that the server keeps for later use has the name of a segment to come and the content of an old one. */
function checksStale(bytes: Buffer, name: string): boolean {
  return readSegmentHeader(bytes).startLsn !== parseName(name).startLsn;
}

function parseName(name: string): { startLsn: bigint } {
  return {
    startLsn: BigInt(Number.parseInt(name.slice(8, 16), 16) * 256 + Number.parseInt(name.slice(16), 16)) << 24n,
  };
}
