import { open, readdir, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { formatOwner, type Owner, parseOwner, stateOf, thisOwner } from "../lib/owner.ts";
import { systemCode } from "./switch-errors.ts";

/** What a file holds. Fails with `switch-failed` or `switch-denied`; `what` names it in messages: `the env file`. */
export async function readWhole(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw fileError(cause, `${what} ${path} cannot be read`);
  }
}

/**
 * Gives a file a new content, all at once: whoever opens it sees the old or the new one. Mode and owner stay; a link stays
 * and what it leads to is replaced. Fails with `switch-conflict` where it no longer holds `before`, and with `switch-failed`
 * or `switch-denied` where it cannot be replaced; then it is as it was.
 */
export async function replaceFile(path: string, before: string, after: string, what: string): Promise<void> {
  const real = await realpath(path).catch((cause: unknown) => {
    throw fileError(cause, `${what} ${path} cannot be found`);
  });
  refuseConfigMap(real, path, what);
  const self = await thisOwner();
  const draft = join(dirname(real), `.${basename(real)}.pgkit-${formatOwner(self)}`);
  try {
    await removeDraftsOfDead(real, self);
    await writeDraft(draft, real, after);
  } catch (cause) {
    // Another one of this process is at it.
    if (systemCode(cause) === "EEXIST") throw changedMeanwhile(path, what);
    throw fileError(cause, `${what} ${path} cannot be replaced`);
  }
  try {
    if ((await readFile(real, "utf8")) !== before) throw changedMeanwhile(path, what);
    await rename(draft, real);
    await syncFolder(dirname(real));
  } catch (cause) {
    await rm(draft, { force: true });
    throw fileError(cause, `${what} ${path} cannot be replaced`);
  }
}

/** What a killed run left may hold a password. */
async function removeDraftsOfDead(real: string, self: Owner): Promise<void> {
  const prefix = `.${basename(real)}.pgkit-`;
  for (const name of await readdir(dirname(real))) {
    const owner = name.startsWith(prefix) ? parseOwner(name.slice(prefix.length)) : undefined;
    if (owner !== undefined && (await stateOf(owner, self)) === "dead")
      await rm(join(dirname(real), name), { force: true });
  }
}

/** A new file beside the old one, with its mode and owner. */
async function writeDraft(draft: string, real: string, text: string): Promise<void> {
  const { mode, uid, gid } = await stat(real);
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(text);
    const made = await file.stat();
    if (made.uid !== uid || made.gid !== gid) await file.chown(uid, gid);
    await file.chmod(mode & 0o7777);
    await file.sync();
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/** Kubernetes mounts a ConfigMap or Secret as links by `..data`, read-only, and puts back what it knows. */
function refuseConfigMap(real: string, path: string, what: string): void {
  if (!/\/\.\.(data|\d{4}_\d\d_\d\d_)/.test(real)) return;
  throw new PgkitError(
    "switch-failed",
    `${what} ${path} comes out of a ConfigMap or Secret of Kubernetes, which cannot be written here`,
    {
      hint: "switch the ConfigMap or Secret itself, by switch.secret or switch.command, or give the program a file of its own",
    },
  );
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function changedMeanwhile(path: string, what: string): PgkitError {
  return new PgkitError("switch-conflict", `${what} ${path} was changed by somebody else while it was switched`, {
    hint: "nothing was overwritten: run it again",
  });
}

function fileError(cause: unknown, message: string): unknown {
  if (cause instanceof PgkitError) return cause;
  const code = systemCode(cause);
  const denied = code === "EACCES" || code === "EPERM";
  const reason = cause instanceof Error ? cause.message.replace(/, .*$/s, "") : String(cause);
  return new PgkitError(denied ? "switch-denied" : "switch-failed", `${message}: ${reason}`, {
    hint: fileHints[code] ?? "see the reason, then run it again",
    cause,
  });
}

const fileHints: Readonly<Record<string, string>> = {
  ENOENT: "is the path right, and is the file on this machine?",
  EACCES:
    "pgkit must be able to write the file and its folder, and to keep its owner: run it as the file's owner or as root",
  EPERM:
    "pgkit must be able to write the file and its folder, and to keep its owner: run it as the file's owner or as root",
  EROFS: "the file system is read-only, as a mounted ConfigMap is: switch it where it comes from, by switch.command",
  EBUSY: "the file is a mount of its own, so that it cannot be replaced: mount its folder instead",
  ENOSPC: "free space on this disk",
};
