import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { restoreCommand } from "../../src/wal/archive-command.ts";

const segment = "000000010000000000000003";

describe("the restore_command of a server", () => {
  let dataDir: string;
  let fetched: string;
  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "pgkit restore 100%-"));
    fetched = join(dataDir, "pg_wal", "pgkit", "in");
    await mkdir(fetched, { recursive: true });
  });
  afterEach(() => rm(dataDir, { recursive: true, force: true }));

  /** As PostgreSQL runs it, with a program in pgkit's place that only says that it was started. */
  const restore = async () => {
    const command = restoreCommand({ instance: "main", spool: "pg_wal/pgkit", command: "echo started" })
      .replaceAll("%f", segment)
      .replaceAll("%p", "pg_wal/RECOVERYXLOG")
      .replaceAll("%%", "%");
    return (await promisify(execFile)("/bin/sh", ["-c", command], { cwd: dataDir })).stdout.trim();
  };
  const restored = () => readFile(join(dataDir, "pg_wal", "RECOVERYXLOG"), "utf8");
  const started = `started --instance main wal fetch ${segment} pg_wal/RECOVERYXLOG`;

  test("takes what was fetched ahead without starting pgkit", async () => {
    await writeFile(join(fetched, segment), "WAL");
    expect(await restore()).toBe("");
    expect(await restored()).toBe("WAL");
  });

  test("waits for what is on its way", async () => {
    const draft = join(fetched, `.${segment}.part`);
    await writeFile(draft, "W");
    const waiting = restore();
    const first = await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 300, "waits"))]);
    expect(first).toBe("waits");
    await writeFile(draft, "WAL");
    await rename(draft, join(fetched, segment));
    expect(await waiting).toBe("");
    expect(await restored()).toBe("WAL");
  });

  test("starts pgkit where nothing was fetched ahead, and where a worker was killed with it under way", async () => {
    expect(await restore()).toBe(started);
    await writeFile(join(fetched, `.${segment}.part`), "W");
    expect(await restore()).toBe(started);
  });
});
