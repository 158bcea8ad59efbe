import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import pLimit, { type LimitFunction } from "p-limit";
import { PgkitError } from "../lib/errors.ts";
import { segmentName, walFileKind } from "../lib/lsn.ts";

/**
 * The local part of the way from the server to the repository, for one server by its system identifier. Nothing in it is
 * needed that the server still has: it may be lost at any time.
 */
export interface StreamFolder {
  /** pg_receivewal writes here; made ready anew before each of its runs. */
  receive: string;
  /** Complete files, flushed to disk, that are not in every repository yet. */
  waiting: string;
  segmentBytes: number;
  /** Files are moved by one at a time. */
  exclusive: LimitFunction;
}

/** Makes the folders (0700). Fails with `config` where that cannot be done. */
export async function openStreamFolder(root: string, systemId: string, segmentBytes: number): Promise<StreamFolder> {
  const [receive, waiting] = [join(root, systemId, "receive"), join(root, systemId, "waiting")];
  const folder = { receive, waiting, segmentBytes, exclusive: pLimit(1) };
  try {
    await mkdir(folder.receive, { recursive: true, mode: 0o700 });
    await mkdir(folder.waiting, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new PgkitError("config", `the folder of the streamer cannot be made: ${said}`, {
      hint: "name one that pgkit's user may write to by archive.streamFolder",
      cause,
    });
  }
  return folder;
}

/** The system identifiers of the servers that this folder has files of. */
export async function systemsIn(root: string): Promise<string[]> {
  return (await namesIn(root)).filter((name) => /^\d+$/.test(name));
}

/** What waits to be stored, in the order in which it must be. */
export async function waitingFiles({ waiting }: StreamFolder): Promise<string[]> {
  return (await namesIn(waiting)).filter((name) => walFileKind(name) !== undefined).sort();
}

/** The segment under way: its name without `.partial`, `undefined` when there is none. */
export async function segmentUnderWay({ receive }: StreamFolder): Promise<string | undefined> {
  return partialsOf(await namesIn(receive)).at(-1);
}

/**
 * Takes what pg_receivewal has completed out of its folder: whole segments, histories, and the last part of a timeline
 * that ended. It flushes and renames a file when it is complete, and never opens it again.
 */
export async function collectCompleted(folder: StreamFolder): Promise<void> {
  const names = (await namesIn(folder.receive)).sort();
  const ended = partialsOf(names)
    .slice(0, -1)
    .map((name) => `${name}.partial`);
  for (const name of names) {
    const kind = walFileKind(name);
    const isDone =
      kind === "history" || (kind === "segment" && (await hasContent(folder, name))) || ended.includes(name);
    if (isDone) await moveToWaiting(folder, name);
  }
}

/**
 * Makes the folder ready for a pg_receivewal that shall begin with the segment at `startLsn`: it begins after the last
 * segment that it finds, so an empty one (a sparse file of the right size) stands for the one before.
 */
export async function prepareToReceive(folder: StreamFolder, timeline: number, startLsn: bigint): Promise<void> {
  const { receive, segmentBytes } = folder;
  await collectCompleted(folder);
  const under = `${segmentName({ timeline, startLsn }, segmentBytes)}.partial`;
  for (const name of await namesIn(receive)) {
    // Cut while it was filled with zeros, as on a full disk: pg_receivewal refuses one of another size.
    if (name === under && [0, segmentBytes].includes((await stat(join(receive, name))).size)) continue;
    if (walFileKind(name) === "partial" && (await hasContent(folder, name))) await moveToWaiting(folder, name);
    else await rm(join(receive, name), { force: true, recursive: true });
  }
  const size = BigInt(segmentBytes);
  if (startLsn === size) {
    // Of a new server's first segment: pg_receivewal takes no notice of segment 0, and of an empty partial one it does.
    await (await open(join(receive, under), "a", 0o600)).close();
    return;
  }
  const before = segmentName({ timeline, startLsn: startLsn - size }, segmentBytes);
  const seed = await open(join(receive, before), "w", 0o600);
  try {
    await seed.truncate(segmentBytes);
  } finally {
    await seed.close();
  }
}

function partialsOf(names: readonly string[]): string[] {
  return names
    .filter((name) => walFileKind(name) === "partial")
    .map((name) => name.slice(0, 24))
    .sort();
}

/** False for our own empty stand-in, and for what is not of a segment's size. */
async function hasContent({ receive, segmentBytes }: StreamFolder, name: string): Promise<boolean> {
  if ((await stat(join(receive, name))).size !== segmentBytes) return false;
  const file = await open(join(receive, name), "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(2), 0, 2, 0);
    return bytesRead === 2 && buffer.readUInt16LE(0) !== 0;
  } finally {
    await file.close();
  }
}

async function moveToWaiting({ receive, waiting }: StreamFolder, name: string): Promise<void> {
  await rename(join(receive, name), join(waiting, name));
}

async function namesIn(dir: string): Promise<string[]> {
  return await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}
