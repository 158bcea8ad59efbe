import type { Socket } from "node:net";
import type pg from "pg";
import { PgkitError } from "../lib/errors.ts";
import { addressOf, type Connection } from "./connection.ts";
import { copyDoneMessage, errorOf, frameReader, queryMessage } from "./copy-frames.ts";
import { openSessionWithClient, type Session, type SessionOptions } from "./session.ts";
import { postgresError } from "./session-errors.ts";

/** A session whose connection can also be one end of a copy. */
export interface CopySession extends Session {
  readonly end: CopyEnd;
}

interface CopyEnd {
  readonly socket: Socket;
  /** For messages. */
  readonly where: string;
}

export interface Copy {
  /** `COPY ... TO STDOUT` and `COPY ... FROM STDIN`, of the same columns and in the same format. */
  from: { session: CopySession; sql: string };
  to: { session: CopySession; sql: string };
  /** Told of the bytes as they pass. */
  onBytes: (bytes: number) => void;
  signal: AbortSignal;
}

/** A session as `openSession` gives it, for `copyBetween`. */
export async function openCopySession(connection: Connection, options: SessionOptions): Promise<CopySession> {
  const { session, client } = await openSessionWithClient(connection, options);
  const where = `database ${session.database} on ${addressOf(connection)}`;
  return { ...session, end: { socket: socketOf(client), where } };
}

/**
 * Sends the rows of one server to the other and gives their number. In both directions a row is the same CopyData message,
 * so that the source's bytes are written to the target's connection as they come, and only their headers are looked at.
 * Fails with what a server answered, or `postgres-unreachable`; both connections are gone then. The target is told of the
 * end only after the source has said that its statement is complete: it cannot take a cut stream for an ended one.
 */
export async function copyBetween({ from, to, onBytes, signal }: Copy): Promise<{ rows: number }> {
  signal.throwIfAborted();
  const [source, target] = [from.session.end, to.session.end];
  const lost = AbortSignal.any([signal, from.session.lost, to.session.lost]);
  const stopped = rejectionOf(lost);
  try {
    const taking = converse(target, "G", to.sql);
    await Promise.race([taking.begun, stopped.promise]);
    const giving = converse(source, "H", from.sql, (bytes) => {
      onBytes(bytes.length);
      if (target.socket.write(bytes)) return;
      source.socket.pause();
      target.socket.once("drain", () => source.socket.resume());
    });
    // The target's refusal comes while the source still sends.
    const rows = await Promise.race([giving.ended, taking.ended, stopped.promise]);
    target.socket.write(copyDoneMessage);
    const taken = await Promise.race([taking.ended, stopped.promise]);
    if (taken === rows) return { rows };
    throw new PgkitError(
      "verification-failed",
      `${target.where} took ${taken} rows of the ${rows} of ${source.where}`,
      {
        hint: "does a trigger or a rule of the target change rows on their way in?",
      },
    );
  } catch (error) {
    source.socket.destroy();
    target.socket.destroy();
    signal.throwIfAborted();
    throw error;
  } finally {
    stopped.forget();
  }
}

/** `client.connection` is the driver's, undocumented: the only way to its socket, which is the TLS one where that is used. */
function socketOf(client: pg.Client): Socket {
  const { connection } = client as pg.Client & { connection?: { stream?: Socket } };
  if (connection?.stream === undefined) throw new Error("the driver has no connection.stream any more");
  return connection.stream;
}

/** A promise that only fails, when the signal is aborted, and is forgotten afterwards. */
function rejectionOf(signal: AbortSignal): { promise: Promise<never>; forget: () => void } {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  promise.catch(() => undefined);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort);
  return { promise, forget: () => signal.removeEventListener("abort", onAbort) };
}

/**
 * Sends one COPY statement and reads the answer in the driver's place, until the server is ready for the next one. `opens` is
 * the message by which the copying begins.
 */
function converse(
  { socket, where }: CopyEnd,
  opens: "G" | "H",
  sql: string,
  onCopyData: (bytes: Buffer) => void = () => undefined,
): { begun: Promise<void>; ended: Promise<number> } {
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<number>();
  begun.promise.catch(() => undefined);
  ended.promise.catch(() => undefined);
  const fail = (error: unknown) => {
    begun.reject(error);
    ended.reject(error);
  };
  const drivers = socket.listeners("data") as ((piece: Buffer) => void)[];
  let rows = 0;
  const onMessage = (type: string, content: Buffer) => {
    if (type === opens) begun.resolve();
    if (type === "E") fail(postgresError(errorOf(content), where));
    if (type === "C") rows = Number(/^COPY (\d+)/.exec(content.toString("latin1"))?.[1]);
    if (type !== "Z") return;
    socket.removeAllListeners("data");
    for (const each of drivers) socket.on("data", each);
    ended.resolve(rows);
  };
  socket.removeAllListeners("data");
  socket.on("data", frameReader({ onCopyData, onMessage }));
  socket.write(queryMessage(sql));
  return { begun: begun.promise, ended: ended.promise };
}
