import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openFolder } from "../restore/cluster-support.ts";
import { eventually } from "../support/eventually.ts";
import { startArchiving } from "../wal/archiving.ts";
import { newPlace } from "../wal/stream-support.ts";
import { momentOf, openedRow } from "./rounds-support.ts";

test.each([1, 64])(
  "segments of %i MB are archived, streamed, fetched, and recovered from",
  async (segmentMegabytes) => {
    await using archiving = await startArchiving({ segmentMegabytes });
    const { cluster, folder } = archiving;
    await cluster.psql("CREATE TABLE written AS SELECT 'A' AS name");
    await using place = await newPlace();
    await place.configure(cluster.url());
    const streaming = place.stream();
    const yaml = await readFile(archiving.config, "utf8");
    await writeFile(archiving.config, yaml.replace(/url: postgresql.*$/m, `url: ${JSON.stringify(cluster.url())}`));
    const pgkit = async (...args: string[]) => {
      const { status, said } = await archiving.pgkit(args);
      expect(status, said).toBe(0);
    };
    await pgkit("backup", "base");
    // Over the ends of segments of 1 MB.
    await cluster.psql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))");
    await cluster.psql("INSERT INTO written VALUES ('B')");
    const moment = await momentOf(cluster);
    await cluster.psql("INSERT INTO written VALUES ('C')");
    await place.caughtUp(cluster, 90_000);
    expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
    const name = await cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
    await eventually(async () => expect(await archiving.archived()).toContain(name), 90_000);
    const target = join(folder, "fetched", "segment");
    await pgkit("wal", "fetch", name, target);
    const content = await readFile(target);
    expect(content.length).toBe(segmentMegabytes * 2 ** 20);
    expect(content.equals(await readFile(join(cluster.dataDir, "pg_wal", name)))).toBe(true);
    const restored = join(await openFolder(join(folder, "restored")), "data");
    await pgkit("restore", "--data-dir", restored, "--start", "--to-time", moment);
    const sql = "SELECT string_agg(name, '' ORDER BY name) AS found FROM written";
    await appendFile(join(restored, "postgresql.conf"), `min_wal_size = ${2 * segmentMegabytes}MB\n`);
    expect(await openedRow(cluster, restored, sql)).toEqual({ found: "AB" });
    // In a scratch server.
    await pgkit("restore", "postgres", "--to-time", moment, "--as", "then");
    expect(await cluster.psql("SELECT string_agg(name, '' ORDER BY name) FROM written", "then")).toBe("AB");
  },
  180_000,
);
