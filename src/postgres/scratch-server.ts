import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { ownedScratchFolder, removeOwnedScratch } from "../lib/scratch-folder.ts";
import { secret } from "../lib/secret.ts";
import type { Connection } from "./connection.ts";
import { initServer } from "./init-server.ts";
import { endLeftServer } from "./left-server.ts";
import type { Programs } from "./programs.ts";
import { unprivilegedUser } from "./run-as.ts";
import { startServer } from "./server.ts";

/** Nothing on it is worth keeping, so nothing is flushed. */
const throwaway = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  wal_level: "minimal",
  max_wal_senders: "0",
  max_wal_size: "4GB",
};

/**
 * Runs `use` with a new, empty server that only this process can reach, by a socket in a private folder. It is stopped
 * and its files removed at the end. When this process is killed it stops by itself, and the next run removes its files.
 */
export async function withScratchServer<Result>(
  programs: Programs,
  options: { settings?: Record<string, string>; signal?: AbortSignal | undefined },
  use: (connection: Connection) => Promise<Result>,
): Promise<Result> {
  const runAs = await unprivilegedUser();
  const { binDir } = programs;
  const folder = await scratchServerFolder();
  try {
    const dataDir = join(folder, "data");
    const settings = { ...throwaway, ...options.settings };
    const { superuser, password } = await initServer({ binDir, dataDir, runAs, settings });
    const server = await startServer({ binDir, dataDir, runAs, socketParent: folder, signal: options.signal });
    try {
      return await use({
        hosts: [{ host: server.socketDir, port: server.port }],
        user: superuser,
        password: secret(password),
        database: "postgres",
        sslMode: "disable",
        parameters: {},
      });
    } finally {
      await server.stop("immediate");
    }
  } finally {
    await removeOwnedScratch(folder);
  }
}

/**
 * A folder for a scratch server, with its data directory `data` in it; those that killed runs have left there are removed.
 * The caller removes it.
 */
export async function scratchServerFolder(parent?: string): Promise<string> {
  const release = (folder: string) => endLeftServer(join(folder, "data"));
  const folder = await ownedScratchFolder("pgkit-scratch-", { parent, release });
  // The server's user must be able to pass through; what lies below is its own and closed to others.
  await chmod(folder, 0o711);
  return folder;
}
