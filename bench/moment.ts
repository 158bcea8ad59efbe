import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { archiveBy, ourselves } from "./archivers.ts";
import { archivingOn } from "./base.ts";
import { makeBig } from "./logical.ts";
import type { Contender } from "./measure.ts";
import { folderPlace } from "./places.ts";
import { compare, type Row, scale } from "./rows.ts";
import type { BenchServer } from "./server.ts";

/** One database of about 150 MB as it was at a moment, beside the recovery of the instance that it is in. */
export async function databaseAt(server: BenchServer): Promise<Row[]> {
  await makeBig(server);
  await server.restart(archivingOn);
  await server.sql("CREATE DATABASE app");
  await server.program("pgbench", ["-i", "-q", "-s", String(Math.max(1, Math.round(10 * scale)))], "app");
  const archiver = await ourselves(server, folderPlace(server.folder), "moment");
  await archiveBy(server, archiver.archiveCommand);
  await archiver.run("backup", "base", "--quiet");
  await server.program("pgbench", ["-n", "-c4", "-T5"], "app");
  const moment = (await server.sql(`SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`)).trim();
  await server.program("pgbench", ["-n", "-c4", "-T1"], "app");
  await server.sql("SELECT pg_switch_wal()");
  while ((await server.sql(waiting)).trim() !== "0") await delay(100);
  const [whole, one] = [join(server.folder, "whole"), join(server.folder, "one")];
  const written: Record<string, number> = {};
  const contender = (name: string, dir: string, args: readonly string[]): Contender => ({
    name,
    reset: async () => {
      await rm(dir, { recursive: true, force: true });
      await server.sql("DROP DATABASE IF EXISTS app_back");
      await server.asServer("/bin/mkdir", ["-m", "700", dir]);
      await server.shell("sync");
    },
    run: async () => {
      const sampler = setInterval(async () => {
        const { stdout } = await server.asServer("/bin/sh", ["-c", `du -sB1M ${dir} 2>/dev/null | cut -f1`]);
        written[name] = Math.max(written[name] ?? 0, Number(stdout.trim()));
      }, 500);
      return await archiver.run(...args).finally(() => clearInterval(sampler));
    },
  });
  const row = await compare(
    "one database as it was at a moment, into the live instance",
    "pgkit restore --data-dir --to-time --start of the instance",
    undefined,
    "",
    [
      contender("peer", whole, ["restore", "--data-dir", whole, "--to-time", moment, "--start", "--yes", "--quiet"]),
      contender("pgkit", one, [
        "restore",
        "app",
        "--to-time",
        moment,
        "--as",
        "app_back",
        "--scratch",
        one,
        "--yes",
        "--quiet",
      ]),
    ],
  );
  await archiveBy(server, "");
  await archiver.remove();
  await rm(whole, { recursive: true, force: true });
  await server.sql("DROP DATABASE IF EXISTS app_back");
  await server.sql("DROP DATABASE app");
  await server.restart({});
  return [
    { ...row, note: `on the disk meanwhile: ${written.pgkit} MiB for one, ${written.peer} MiB for the instance` },
  ];
}

const waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
