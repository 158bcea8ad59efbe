import { readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { formatOwner, parseOwner, stateOf, thisOwner } from "../lib/owner.ts";
import type { RunAs } from "../postgres/run-as.ts";
import { writePrivateFile } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";

/** In a data directory from the first change on until it is whole: whose restore it is, should that be cut. */
export const markerName = "pgkit-restore.json";
export const markerDraftName = `${markerName}.draft`;

export interface Marker {
  backup: string;
  systemId: string;
  /** Tablespaces that this restore writes to, so that they count as its own when it goes on. */
  tablespaces: readonly string[];
  /** The process that works, or worked, on it. */
  owner: string;
}

/** The marker of a restore that was cut, or `undefined`. Fails with `locked` when that restore is still at work. */
export async function readMarker(dataDir: string): Promise<Marker | undefined> {
  const text = await unlessAbsent(readFile(join(dataDir, markerName), "utf8"));
  if (text === undefined) return undefined;
  const marker = parse(text, dataDir);
  const [owner, self] = [parseOwner(marker.owner), await thisOwner()];
  if (owner !== undefined && owner.pid !== self.pid && (await stateOf(owner, self)) === "alive") {
    throw new PgkitError("locked", `process ${owner.pid} is restoring ${marker.backup} into ${dataDir}`, {
      hint: "wait for it, or stop it and run this again",
    });
  }
  return marker;
}

/** Written under another name first, so that it is there whole or not at all. */
export async function writeMarker(
  dataDir: string,
  facts: Omit<Marker, "owner">,
  runAs: RunAs | undefined,
): Promise<void> {
  const marker: Marker = { ...facts, owner: formatOwner(await thisOwner()) };
  const draft = join(dataDir, markerDraftName);
  await rm(draft, { force: true });
  await writePrivateFile(draft, `${JSON.stringify(marker, undefined, 2)}\n`, runAs);
  await rename(draft, join(dataDir, markerName));
}

function parse(text: string, dataDir: string): Marker {
  try {
    const { backup, systemId, tablespaces, owner } = JSON.parse(text);
    if (typeof backup === "string" && typeof systemId === "string" && Array.isArray(tablespaces)) {
      return { backup, systemId, tablespaces: tablespaces.map(String), owner: String(owner) };
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new PgkitError("refused-overwrite", `${join(dataDir, markerName)} is not what a restore of pgkit left behind`, {
    hint: "look at what is in the directory; empty it, or name another",
  });
}
