import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../lib/errors.ts";

/**
 * `starting`: no server was reached yet. `paused`: too much waits for the repository, so nothing is received.
 * `given-up`: the slot was dropped (`onFull: gap`), until the repository takes WAL again.
 */
export type StreamState = "starting" | "streaming" | "disconnected" | "paused" | "given-up" | "stopped";

/** What the streamer says of itself, for `wal status` and health checks; LSNs as `X/Y`, times in RFC 3339. */
export interface StreamStatus {
  format: 1;
  instance: string;
  systemId: string | undefined;
  slot: string;
  state: StreamState;
  /** Since when it is in this state. */
  since: string;
  timeline: number | undefined;
  serverLsn: string | undefined;
  receivedLsn: string | undefined;
  /** Up to here every repository has everything. */
  storedLsn: string | undefined;
  /** WAL that the server has flushed and not every repository has stored. */
  lagBytes: number | undefined;
  /** For how long the oldest of it has been there. */
  lagSeconds: number | undefined;
  /** WAL that the slot holds on the server. */
  retainedBytes: number | undefined;
  waitingSegments: number;
  /** Why it is not where it should be: the server's, and each repository's. */
  troubles: { where: string; message: string; since: string }[];
  /** WAL was lost with `onFull: gap`, and the base backup that it asks for is not taken yet. */
  baseBackupNeeded: boolean;
  host: string;
  pid: number;
  /** A streamer that lives writes this at least every few seconds. */
  updatedAt: string;
}

const fileName = "status.json";

/** Replaces the status at once, so that a reader never sees half of one. */
export async function writeStreamStatus(streamFolder: string, status: StreamStatus): Promise<void> {
  const path = join(streamFolder, fileName);
  await writeFile(`${path}.new`, `${JSON.stringify(status, undefined, 2)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** What the streamer of this folder last said; `undefined` when none ever worked here. Look at `updatedAt`. */
export async function readStreamStatus(streamFolder: string): Promise<StreamStatus | undefined> {
  const path = join(streamFolder, fileName);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  try {
    // Written whole by `writeStreamStatus` alone.
    return JSON.parse(text) as StreamStatus;
  } catch (cause) {
    throw new PgkitError("config", `${path} is not the status of a streamer`, {
      hint: "something else wrote it: remove it; the streamer writes it anew",
      cause,
    });
  }
}
