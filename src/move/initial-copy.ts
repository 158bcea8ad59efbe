import { PgkitError } from "../lib/errors.ts";
import type { Session } from "../postgres/session.ts";
import { feedHealth, feedWatch } from "./feed-errors.ts";
import type { MoveContext } from "./step.ts";

/** How far the initial copy of a subscription is. */
export interface CopyState {
  tables: number;
  ready: number;
  /** Of the tables that are ready, and what is copied so far of those under way. */
  bytes: number;
  /** Some of the tables that are not ready, by name. */
  waiting: string[];
}

export async function copyState(session: Session, name: string): Promise<CopyState> {
  const [row] = await session.query<CopyState>(
    `SELECT count(*)::float8 AS tables, count(*) FILTER (WHERE r.srsubstate = 'r')::float8 AS ready,
       coalesce(sum(CASE WHEN r.srsubstate = 'r' THEN pg_table_size(r.srrelid) ELSE p.bytes_processed END), 0)::float8 AS bytes,
       coalesce((array_agg(n.nspname || '.' || c.relname ORDER BY r.srsubstate = 'i', n.nspname, c.relname)
         FILTER (WHERE r.srsubstate <> 'r'))[1:3], '{}') AS waiting
     FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid JOIN pg_class c ON c.oid = r.srrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_stat_progress_copy p ON p.relid = r.srrelid AND p.datname = current_database()
     WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    [name],
  );
  if (row === undefined) throw new Error("an aggregate gave no row");
  return row;
}

export interface CopyWait {
  name: string;
  totalBytes: number;
  /** Called every few seconds; throws to end the wait. */
  whileWaiting: () => Promise<void>;
}

const everyMs = 250;
const looksBetweenChecks = 20;

/** Waits until PostgreSQL has copied every table and follows all of them. Fails with `move-stopped`. */
export async function waitCopied(context: MoveContext, wait: CopyWait): Promise<CopyState> {
  const { name, totalBytes, whileWaiting } = wait;
  const { clock, report, move } = context;
  const [task, startedMs, watch] = [`copy ${move.database}`, clock.monotonicMs(), feedWatch(context, name)];
  report({ type: "start", task, totalBytes });
  return await context.session("target", async (session) => {
    for (let looks = 1; ; looks += 1) {
      const [state, health] = [await copyState(session, name), await feedHealth(session, name)];
      const phase = `${state.ready} of ${state.tables} tables`;
      report({ type: "progress", task, bytes: Math.min(state.bytes, totalBytes), totalBytes, phase });
      if (state.ready === state.tables) {
        const seconds = (clock.monotonicMs() - startedMs) / 1000;
        report({ type: "done", task, bytes: state.bytes, seconds, summary: `${state.tables} tables are followed` });
        return state;
      }
      if (looks % looksBetweenChecks === 0) await whileWaiting();
      await lookAt(() => watch.look(health, String(state.ready), () => waitingFor(state)), whileWaiting);
      await clock.delay(everyMs, context.signal);
    }
  });
}

/** A table that was altered makes the workers fail: then that is what to tell. */
async function lookAt(look: () => void, whileWaiting: () => Promise<void>): Promise<void> {
  try {
    look();
  } catch (error) {
    if (error instanceof PgkitError) await whileWaiting();
    throw error;
  }
}

function waitingFor({ waiting, tables, ready }: CopyState): string {
  return `${tables - ready} of ${tables} tables are not copied, such as ${waiting.join(", ")}`;
}
