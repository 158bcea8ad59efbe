import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Repository } from "../repo/repository.ts";
import type { CommandContext } from "./command.ts";
import type { RepositoryConfig } from "./config.ts";

/** The folder of a repository, `undefined` for one that is elsewhere. */
export function folderOfUrl(url: string): string | undefined {
  return url.startsWith("file:") ? fileURLToPath(url) : undefined;
}

/** Where a user's commands remember the folders that they wrote to. */
export function ownMemory(env: CommandContext["env"]): string {
  const data = env["XDG_DATA_HOME"] || join(env["HOME"] || homedir(), ".local", "share");
  return join(data, "pgkit", "repositories");
}

interface Known {
  where: string;
  id: string;
  device: string;
}

/**
 * Opens a repository to write to it, and makes it where there is none; but not in the empty folder on which its file system
 * is to be mounted. `memory` is a folder in which is noted which repository a folder held, and on which file system:
 * where that is another now and the repository is not there, fails with `repository-missing`. One that was removed on
 * purpose is made anew, as its folder's file system is the same.
 */
export async function openWhereItWas(
  context: CommandContext,
  repository: RepositoryConfig,
  memory: string,
): Promise<Repository> {
  const path = folderOfUrl(repository.url);
  if (path === undefined) return await context.openOrCreateRepository(repository);
  const { deviceOf } = await import("../store/file/device.ts");
  const note = join(memory, `${createHash("sha256").update(repository.url).digest("hex").slice(0, 16)}.json`);
  const known = await read(note);
  if (known !== undefined && known.device !== (await deviceOf(path))) {
    await assertThere(context, repository, known, note);
  }
  const opened = await context.openOrCreateRepository(repository);
  const now = { where: repository.url, id: opened.id, device: await deviceOf(path) };
  if (known?.id !== now.id || known.device !== now.device) await write(memory, note, now);
  return opened;
}

async function assertThere(context: CommandContext, repository: RepositoryConfig, known: Known, note: string) {
  const found = await context.openRepository(repository).catch((error: unknown) => {
    if (isPgkitError(error, "repository-missing")) return undefined;
    throw error;
  });
  if (found?.id === known.id) return;
  const now = found === undefined ? "there is none" : `there is ${found.id}`;
  const message = `${repository.url} is on another file system than before, where the repository ${known.id} was, and now ${now}`;
  throw new PgkitError("repository-missing", message, {
    hint: `is its file system mounted? if that repository was given up on purpose, remove ${note}`,
  });
}

/** One that was cut, as by a power failure, knows nothing. */
async function read(note: string): Promise<Known | undefined> {
  try {
    return JSON.parse(await readFile(note, "utf8"));
  } catch (error) {
    if (error instanceof SyntaxError || hasCode(error, "ENOENT", "ENOTDIR", "EACCES")) return undefined;
    throw error;
  }
}

/** Who has no place to remember, such as a container with a read-only root, works without. */
async function write(memory: string, note: string, known: Known): Promise<void> {
  const draft = `${note}.${process.pid}`;
  try {
    await mkdir(memory, { recursive: true, mode: 0o700 });
    await writeFile(draft, `${JSON.stringify(known)}\n`, { mode: 0o600 });
    await rename(draft, note);
  } catch (error) {
    if (!hasCode(error, "EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "ENOSPC")) throw error;
  }
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
