import type { Connection } from "../postgres/connection.ts";
import { openSession, type Session } from "../postgres/session.ts";
import type { MoveServer, Side } from "./step.ts";

/** What the sessions of a move call themselves, by which the steps tell them from the application's. */
export const moveApplicationName = "pgkit move";

/** Sessions that are kept between steps, as opening one takes longer than what most steps ask. Close it. */
export interface SessionPool {
  use<T>(side: Side, database: string, signal: AbortSignal, run: (session: Session) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export function sessionPool(servers: Record<Side, MoveServer>): SessionPool {
  const idle = new Map<string, Session[]>();
  const take = (key: string): Session | undefined => {
    const sessions = idle.get(key) ?? [];
    for (let session = sessions.pop(); session !== undefined; session = sessions.pop()) {
      if (!session.lost.aborted) return session;
    }
    return undefined;
  };
  return {
    use: async (side, database, signal, run) => {
      signal.throwIfAborted();
      const key = `${side} ${database}`;
      const session = take(key) ?? (await open(servers[side].connection, database));
      // It belongs to no signal, since it is used again under others: a run that is stopped gives it up.
      const cut = () => void session.close();
      signal.addEventListener("abort", cut);
      try {
        const result = await run(session);
        idle.set(key, [...(idle.get(key) ?? []), session]);
        return result;
      } catch (error) {
        // Nobody knows which transaction it is in.
        await session.close();
        throw signal.aborted ? signal.reason : error;
      } finally {
        signal.removeEventListener("abort", cut);
      }
    },
    close: async () => {
      await Promise.all([...idle.values()].flat().map((session) => session.close()));
      idle.clear();
    },
  };
}

function open(connection: Connection, database: string): Promise<Session> {
  return openSession(connection, { database, applicationName: moveApplicationName });
}
