import type pg from "pg";
import { PgkitError } from "../lib/errors.ts";
import { type Lsn, parseLsn } from "../lib/lsn.ts";
import { connectToAny } from "./connect.ts";
import { addressOf, type Connection } from "./connection.ts";
import { replicationError } from "./replication-errors.ts";

/** One row of an answer, its columns as text. */
export type ReplicationRow = readonly (string | null)[];

export interface ReplicationCommand {
  text: string;
  /** The payload of a CopyData message; valid only until this returns. */
  onCopyData?: (payload: Buffer) => void;
  /** What is sent when the command asks for it. */
  copyIn?: Uint8Array;
}

/** One connection that speaks the replication protocol. Close it; it is one of the server's max_wal_senders. */
export interface Replication {
  /** `host:port` for messages. */
  readonly where: string;
  identify(): Promise<{ systemId: string; timeline: number; lsn: Lsn }>;
  /**
   * Runs one command; gives its result sets. `results` grows as they come: those that precede a copy are whole before
   * its first message. Fails with what the server answers, or `postgres-unreachable` when the connection is lost.
   */
  run(command: ReplicationCommand, results?: ReplicationRow[][]): Promise<ReplicationRow[][]>;
  /** Takes no more from the server until `resume`, so that it waits. */
  pause(): void;
  resume(): void;
  /** What the server has warned of, told as it comes. */
  onNotice(listener: (message: string) => void): void;
  close(): Promise<void>;
}

export interface ReplicationOptions {
  applicationName?: string;
  signal?: AbortSignal | undefined;
}

/**
 * Opens a replication connection to the first host that answers. Fails with `postgres-denied` when the user may not, or
 * pg_hba.conf has no line for it. The signal cuts the connection.
 */
export async function openReplication(connection: Connection, options: ReplicationOptions = {}): Promise<Replication> {
  const { applicationName = "pgkit base backup", signal } = options;
  signal?.throwIfAborted();
  const where = `replication on ${addressOf(connection)}`;
  const told = (error: unknown) => replicationError(error, where, connection.user);
  const { database } = connection;
  const client = await connectToAny(connection, { database, applicationName, replication: true }).catch((error) => {
    throw told(error);
  });
  // Met by the command under way, or by the next one.
  client.on("error", () => undefined);
  const cut = () => void client.end();
  signal?.addEventListener("abort", cut);
  const { stream } = wireOf(client);
  const run = async (command: ReplicationCommand, results: ReplicationRow[][] = []) => {
    signal?.throwIfAborted();
    try {
      return await submit(client, command, results);
    } catch (error) {
      signal?.throwIfAborted();
      throw told(error);
    }
  };
  return {
    where: addressOf(connection),
    run,
    identify: async () => identified(await run({ text: "IDENTIFY_SYSTEM" }), where),
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    onNotice: (listener) => void client.on("notice", ({ message }) => listener(message ?? "")),
    close: () => {
      signal?.removeEventListener("abort", cut);
      return client.end();
    },
  };
}

/** Runs `use` with a replication connection and closes it, whatever happens. */
export async function withReplication<Result>(
  connection: Connection,
  options: ReplicationOptions,
  use: (replication: Replication) => Promise<Result>,
): Promise<Result> {
  const replication = await openReplication(connection, options);
  try {
    return await use(replication);
  } finally {
    await replication.close();
  }
}

function identified(results: ReplicationRow[][], where: string) {
  const [systemId, timeline, lsn] = results[0]?.[0] ?? [];
  if (typeof systemId !== "string" || typeof timeline !== "string" || typeof lsn !== "string") {
    throw new PgkitError("postgres-failed", `${where} answered IDENTIFY_SYSTEM without a row`);
  }
  return { systemId, timeline: Number(timeline), lsn: parseLsn(lsn) };
}

/** What pg's Connection has and its types leave out. */
interface Wire {
  readonly stream: { pause(): void; resume(): void };
  query(text: string): void;
  sendCopyFromChunk(chunk: Uint8Array): void;
  endCopyFrom(): void;
}

function wireOf(client: pg.Client): Wire {
  return (client as unknown as { connection: Wire }).connection;
}

/** Copies are sent in pieces, so that a large one is not one message. */
const pieceBytes = 256 * 1024;

/** The driver's own queries keep no result set before a copy, nor what a copy brings: this is one of another kind. */
function submit(client: pg.Client, command: ReplicationCommand, results: ReplicationRow[][]) {
  const wire = wireOf(client);
  return new Promise<ReplicationRow[][]>((resolve, reject) => {
    const query = {
      submit: () => wire.query(command.text),
      handleRowDescription: () => void results.push([]),
      handleDataRow: ({ fields }: { fields: ReplicationRow }) => void results.at(-1)?.push(fields),
      handleCopyData: ({ chunk }: { chunk: Buffer }) => {
        try {
          command.onCopyData?.(chunk);
        } catch (error) {
          reject(error);
        }
      },
      handleCopyInResponse: () => {
        const bytes = Buffer.from(command.copyIn ?? new Uint8Array(0));
        for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
          wire.sendCopyFromChunk(bytes.subarray(offset, offset + pieceBytes));
        }
        wire.endCopyFrom();
      },
      handleCommandComplete: () => undefined,
      handleEmptyQuery: () => undefined,
      handlePortalSuspended: () => undefined,
      handleReadyForQuery: () => resolve(results),
      handleError: reject,
    };
    client.query(query);
  });
}
