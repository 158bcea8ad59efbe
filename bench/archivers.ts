import { chown, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { archiveCommand, restoreCommand, shellWords } from "../src/wal/archive-command.ts";
import { processesWith, type Ran } from "./measure.ts";
import type { Place } from "./places.ts";
import { type BenchServer, pgkitProgram } from "./server.ts";

/** One of the two, with a repository of its own. */
export interface Archiver {
  archiveCommand: string;
  /** For a server on this data directory. */
  restoreCommand(dataDir: string): string;
  /** A word that is in the command line of all its processes. */
  word: string;
  run(...args: string[]): Promise<Ran>;
  /** Ends what it runs in the background, and removes what is under way. */
  settle(): Promise<void>;
  /** With its repository, where that is a folder. */
  remove(): Promise<void>;
}

const [instance, spool] = ["main", "pg_wal/pgkit"];

/** pgkit with its own defaults, and an empty repository. */
export async function ourselves(server: BenchServer, place: Place, name: string): Promise<Archiver> {
  const { folder, port, password, dataDir } = server;
  const config = join(folder, `${name}.yaml`);
  // The server's user has no folder of its own for Node's cache of compiled code elsewhere.
  const words = ["env", `TMPDIR=${folder}`, process.execPath, pgkitProgram, "--config", config];
  const command = shellWords(words);
  await writeOwned(server, config, [
    ...place.ours(name),
    "instances:",
    `  ${instance}:`,
    `    url: postgresql://postgres:${password}@127.0.0.1:${port}/postgres`,
    `    archive: { command: ${JSON.stringify(command)} }`,
    "",
  ]);
  const settle = async () => {
    await endAll(config);
    await rm(join(dataDir, spool), { recursive: true, force: true });
  };
  return {
    archiveCommand: archiveCommand({ instance, spool, command }),
    restoreCommand: () => restoreCommand({ instance, spool, command }),
    word: config,
    run: (...args) => server.asServer(process.execPath, [pgkitProgram, "--config", config, ...args]),
    settle,
    remove: async () => {
      await settle();
      await removeRepository(place, name);
    },
  };
}

/** pgbackrest with two processes, zstd's level 3 and asynchronous archiving, and an empty repository. */
export async function theOther(server: BenchServer, place: Place, name: string): Promise<Archiver> {
  const { folder, port, dataDir, socketDir } = server;
  const config = join(folder, `${name}.conf`);
  const own = join(folder, `${name}-own`);
  await writeOwned(server, config, [
    "[global]",
    ...["process-max=2", "compress-type=zst", "compress-level=3", "archive-async=y", "start-fast=y"],
    ...["log-level-console=warn", "log-level-file=off", `spool-path=${own}`, `lock-path=${own}/lock`],
    ...place.theirs(name),
    "[bench]",
    ...[`pg1-path=${dataDir}`, `pg1-port=${port}`, `pg1-socket-path=${socketDir}`, "pg1-user=postgres", ""],
  ]);
  const program = "/usr/bin/pgbackrest";
  const words = [`--config=${config}`, "--stanza=bench"];
  const run = (...args: string[]) => server.asServer(program, [...words, ...args]);
  const settle = async () => {
    await endAll(config);
    await rm(own, { recursive: true, force: true });
    await server.asServer("/bin/mkdir", [own]);
  };
  await settle();
  await run("stanza-create");
  return {
    archiveCommand: `${program} ${words.join(" ")} archive-push %p`,
    restoreCommand: (dir) => `${program} ${words.join(" ")} --pg1-path=${dir} archive-get %f "%p"`,
    ...{ word: config, run, settle },
    remove: async () => {
      await settle();
      await removeRepository(place, name);
    },
  };
}

async function removeRepository(place: Place, name: string): Promise<void> {
  const folder = place.folder?.(name);
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
}

async function writeOwned({ runAs }: BenchServer, path: string, lines: readonly string[]): Promise<void> {
  await writeFile(path, lines.join("\n"), { mode: 0o600 });
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
}

async function endAll(config: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const pids = await processesWith(config);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, tries < 50 ? "SIGTERM" : "SIGKILL");
      } catch {
        // It has just ended.
      }
    }
    await delay(100);
  }
}

/** Gives the server another archive_command, and waits until the archiver has it. */
export async function archiveBy(server: BenchServer, command: string): Promise<void> {
  const text = command.replaceAll("'", "''");
  await server.sql(`ALTER SYSTEM SET archive_command = '${text}'`);
  await server.sql("SELECT pg_reload_conf()");
  await delay(500);
}
