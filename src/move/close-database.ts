import { PgkitError } from "../lib/errors.ts";
import { formatLsn } from "../lib/lsn.ts";
import { rfc3339 } from "../lib/time.ts";
import { literal } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";
import { armDeadMan, disarmDeadMan } from "./dead-man.ts";
import { endSessions, refuseOtherWriters, refusePrepared } from "./end-sessions.ts";
import { closeStatement, isClosed, openingStatements } from "./gate.ts";
import { flushPosition } from "./position.ts";
import type { MoveContext, Side } from "./step.ts";

/** A database that nobody writes into any more. */
export interface Closed {
  /** All that was ever committed in it is before this position, and flushed. */
  lsn: string;
  at: string;
  /** Rows inserted, updated and deleted so far, as the server counts them: it must not grow. */
  writes: string;
}

/** -1: no limit; `undefined` where there is no such database. */
export async function connectionLimit(session: Session, database: string): Promise<number | undefined> {
  const [row] = await session.query<{ limit: number }>(
    `SELECT datconnlimit AS "limit" FROM pg_database WHERE datname = $1`,
    [database],
  );
  return row?.limit;
}

/**
 * Closes the database on this side to all others (`gate.ts`), ends every session in it and gives the
 * position behind its last write. The server opens it again by itself, to `formerLimit`, at the move's `maxBlockMs`.
 * Where it fails it is open again; only where `signal` ended it, the caller lifts the block.
 */
export async function closeDatabase(context: MoveContext, side: Side, formerLimit: number): Promise<Closed> {
  const { move, clock } = context;
  try {
    // Before anybody waits: a server's deadline that is early by the time of the pause is none the worse.
    await context.session(side, (session) => refuseOtherWriters(context, session, side));
    await rearm(context, side, formerLimit);
    await pauseSwitchers(context);
    return await context.session(side, async (session) => {
      await session.query(closeStatement(move.database));
      await endSessions(context, session, side);
      await refusePrepared(context, session, side);
      const lsn = formatLsn(await flushPosition(session));
      return { lsn, at: rfc3339(clock.now()), writes: await writesOf(session) };
    });
  } catch (error) {
    if (!context.signal.aborted) await openDatabase(context, side, formerLimit);
    throw error;
  }
}

/** Opens it to this many connections, and lets the application's waiting statements go on. Repeated, it changes nothing. */
export async function openDatabase(context: MoveContext, side: Side, limit: number): Promise<void> {
  const { move } = context;
  await context.session(side, async (session) => {
    await disarmDeadMan(session, move.id);
    await session.query(`DO ${literal(`BEGIN ${openingStatements(context, side, limit)} END`)}`);
  });
  await Promise.all(context.switchers.map((switcher) => switcher.resume?.(context.signal)));
}

/**
 * From here on the database stays closed until it is opened on purpose. Fails with `move-stopped` where the server has
 * opened it meanwhile, or where somebody has written into it or is in it.
 */
export async function keepClosed(context: MoveContext, side: Side, closed: Closed): Promise<void> {
  const { move } = context;
  await context.session(side, async (session) => {
    await disarmDeadMan(session, move.id);
    const where = `database ${move.database} on ${context[side].instance}`;
    if ((await isClosed(session, move.database)) !== true) {
      throw new PgkitError("move-stopped", `${where} was opened again at the deadline of the block`, {
        hint: "nothing is lost, the application writes there; pgkit move resume, with a longer --max-block",
      });
    }
    await endSessions(context, session, side);
    const writes = await writesOf(session);
    if (writes === closed.writes) return;
    throw new PgkitError(
      "move-stopped",
      `${where} was written to while it was closed: ${closed.writes} rows before, ${writes} now`,
      {
        hint: "only a superuser's session can do that: stop it, then pgkit move resume",
      },
    );
  });
}

/** What a session has written is counted when it ends, before it is gone from pg_stat_activity. */
export async function writesOf(session: Session): Promise<string> {
  const [row] = await session.query<{ writes: string }>(
    `SELECT coalesce(sum(pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid)
       + pg_stat_get_tuples_deleted(c.oid)), 0)::text AS writes
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`,
  );
  return row?.writes ?? "";
}

async function rearm(context: MoveContext, side: Side, limit: number): Promise<void> {
  await context.session(side, (session) => disarmDeadMan(session, context.move.id));
  await armDeadMan(context, side, limit);
}

/** It waits for the statements under way, and must not do so for longer than the application may wait for it. */
async function pauseSwitchers({ switchers, signal, move }: MoveContext): Promise<void> {
  const { maxBlockMs } = move.options;
  const soon = maxBlockMs === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(maxBlockMs / 2)]);
  await Promise.all(
    switchers.map(async (switcher) => {
      try {
        await switcher.pause?.(soon);
      } catch (cause) {
        signal.throwIfAborted();
        if (!soon.aborted) throw cause;
        throw new PgkitError(
          "move-stopped",
          `${switcher.where} still has statements under way and could not be paused`,
          {
            hint: "end long transactions, or allow a longer --max-block; then pgkit move resume",
            cause,
          },
        );
      }
    }),
  );
}
