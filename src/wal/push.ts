import { open, readFile } from "node:fs/promises";
import { PgkitError } from "../lib/errors.ts";
import { walFileKind } from "../lib/lsn.ts";
import type { Clock } from "../lib/time.ts";
import type { Repository } from "../repo/repository.ts";
import { createLineage, type LineageFacts, putWal } from "../repo/wal.ts";
import { once } from "../store/once.ts";
import type { SignalOption } from "../store/store.ts";
import { type ClusterFacts, readSegmentBytes } from "./control.ts";
import { ownLineage } from "./own-lineage.ts";
import { checkSegment, readSegmentHeader } from "./segment.ts";

/** A repository that is opened when it is first needed. */
export interface Destination {
  readonly where: string;
  readonly open: () => Promise<Repository>;
}

/** A repository that is known to be the right one for this server's WAL. */
export interface Archive {
  readonly where: string;
  /** Durable and proven when it resolves. Fails as `putWal` does, and with `system-mismatch`. */
  put(file: WalContent, options?: SignalOption): Promise<void>;
}

/** A WAL file that was read and checked. */
export interface WalContent {
  name: string;
  bytes: Buffer;
  segmentBytes: number;
}

export interface ArchiveOf {
  instance: string;
  dataDir: string;
  cluster: ClusterFacts;
  clock: Clock;
}

/** The destination as an archive of this server: its lineage there is looked up, or begun, before the first file. */
export function archiveIn(destination: Destination, { instance, cluster, clock }: ArchiveOf): Archive {
  const opened = once(async () => {
    const repository = await destination.open();
    const lineage = { instance, systemId: cluster.systemId };
    return { repository, own: (await ownLineage(repository, lineage, { newLineage: false })).own };
  });
  let lineage: LineageFacts | undefined;
  return {
    where: destination.where,
    async put({ name, bytes, segmentBytes }, { signal } = {}) {
      const { repository } = await opened(signal);
      if (lineage === undefined) {
        const facts = { instance, ...cluster, segmentBytes };
        lineage = await createLineage(repository, facts, clock, { signal });
      }
      await putWal(repository, lineage, name, bytes, { clock, signal });
    },
  };
}

/**
 * Reads a file of pg_wal and checks that it is what its name says, of this server. `into` is used where the file fits it
 * exactly. Fails with `wal-invalid`.
 */
export async function readWalFile(
  path: string,
  name: string,
  { cluster, dataDir }: ArchiveOf,
  into?: Buffer,
): Promise<WalContent> {
  const kind = walFileKind(name);
  if (kind === undefined) {
    throw new PgkitError("usage", `"${name}" is not the name of a WAL file`, {
      hint: "archive_command gives the path as %p, such as pg_wal/000000010000000000000003",
    });
  }
  const bytes = await readWhole(path, into);
  if (kind === "segment" || kind === "partial") {
    const { segmentBytes } = readSegmentHeader(bytes, name);
    if (bytes.length !== segmentBytes) {
      throw invalid(name, `it has ${bytes.length} bytes of ${segmentBytes}: the file was cut`);
    }
    checkSegment(bytes, name, { systemId: cluster.systemId, segmentBytes });
    return { name, bytes, segmentBytes };
  }
  const wanted = kind === "history" ? /^\s*\d+\s+[0-9A-F]+\/[0-9A-F]+/m : /^START WAL LOCATION: /m;
  if (!wanted.test(bytes.toString("utf8"))) {
    throw invalid(
      name,
      `its ${bytes.length} bytes are not those of a ${kind === "history" ? "timeline" : "backup"} history`,
    );
  }
  return { name, bytes, segmentBytes: await readSegmentBytes(dataDir) };
}

async function readWhole(path: string, into: Buffer | undefined): Promise<Buffer> {
  if (into === undefined) return await readFile(path);
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size !== into.length) return await file.readFile();
    let at = 0;
    for (let read = 1; read > 0 && at < size; at += read) {
      read = (await file.read(into, at, size - at, at)).bytesRead;
    }
    return into.subarray(0, at);
  } finally {
    await file.close();
  }
}

function invalid(name: string, what: string): PgkitError {
  return new PgkitError("wal-invalid", `${name} is not what its name says: ${what}`, {
    hint: "nothing was stored; is the server's disk in order? a base backup taken now does not need this file",
  });
}
