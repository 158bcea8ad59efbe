import { PgkitError } from "../lib/errors.ts";
import type { Session } from "../postgres/session.ts";
import type { MoveContext, Side } from "./step.ts";

interface Ended {
  role: string | null;
  application: string;
  superuser: boolean;
}

/** Sessions of others in this database: not pgkit's, and nothing that cannot write for an application. */
const othersSessions = `
  SELECT a.pid, a.usename AS role, a.application_name AS application, coalesce(r.rolsuper, false) AS superuser
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
  WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND a.backend_type NOT IN ('autovacuum worker', 'walsender', 'parallel worker')
    AND a.backend_type NOT LIKE 'logical replication%'
    AND NOT (a.usename = current_user AND a.application_name LIKE 'pgkit%')`;

export async function othersIn(session: Session): Promise<Ended[]> {
  return await session.query<Ended>(othersSessions);
}

/** A closed database lets superusers in: where one was ended, it is looked whether it stays away for so long. */
const superusersStayAwayMs = 150;

/**
 * Ends the sessions of a database that is closed already, until none is left. One that was let in before it was closed may
 * not show yet: while it starts it holds a lock on the database, and is waited for. Fails with `move-stopped` where
 * sessions come back, as a superuser's can.
 */
export async function endSessions(context: MoveContext, session: Session, side: Side): Promise<void> {
  const { clock, move } = context;
  const patienceMs = Math.min(5000, (move.options.maxBlockMs ?? 10_000) / 2);
  const untilMs = clock.monotonicMs() + patienceMs;
  let [last, quietFromMs]: [Ended[], number] = [[], 0];
  for (;;) {
    const ended = await endOnce(session);
    const nowMs = clock.monotonicMs();
    if (ended === "none" && nowMs >= quietFromMs) return;
    if (nowMs > untilMs) throw comeBack(context, side, last);
    if (ended !== "none" && ended.length > 0) last = ended;
    if (ended !== "none" && ended.some(({ superuser }) => superuser)) quietFromMs = nowMs + superusersStayAwayMs;
    await clock.delay(3, context.signal);
  }
}

/** Those that it has told to end; `none` where there is no session, nor one that is starting. */
async function endOnce(session: Session): Promise<Ended[] | "none"> {
  // In this order: what has given the lock back in between shows as a session.
  const starting = await session.query(
    `SELECT FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.mode = 'RowExclusiveLock'
       AND l.objid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND a.datname IS NULL`,
  );
  const ended = await session.query<Ended>(
    `SELECT role, application, superuser, pg_terminate_backend(pid) FROM (${othersSessions}) AS others`,
  );
  return starting.length === 0 && ended.length === 0 ? "none" : ended;
}

function comeBack(context: MoveContext, side: Side, ended: readonly Ended[]): PgkitError {
  const who = ended.map(
    ({ role, application, superuser }) =>
      `${role ?? "a background worker"}${superuser ? " (superuser)" : ""} ${application}`,
  );
  const message = `sessions in ${context.move.database} on ${context[side].instance} do not end or come back although it is closed: ${[...new Set(who)].join(", ") || "one that is starting"}`;
  return new PgkitError("move-stopped", message, {
    hint: "a superuser is always let in: stop what uses that role, or ALTER ROLE ... NOSUPERUSER; then pgkit move resume",
  });
}

/** A subscription writes too, and no closed database stops it. */
export async function refuseOtherWriters(context: MoveContext, session: Session, side: Side): Promise<void> {
  await refusePrepared(context, session, side);
  const found = await session.query<{ name: string }>(
    `SELECT subname AS name FROM pg_subscription WHERE subenabled AND subname NOT LIKE 'pgkit\\_%'
       AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  if (found.length === 0) return;
  const names = found.map(({ name }) => name).join(", ");
  const message = `${context.move.database} on ${context[side].instance} is written to by subscriptions of its own: ${names}`;
  throw new PgkitError("move-stopped", message, {
    hint: `${found.map(({ name }) => `ALTER SUBSCRIPTION ${name} DISABLE;`).join(" ")} then pgkit move resume`,
  });
}

/** A prepared transaction can be committed at any time later; it is in no session. */
export async function refusePrepared(context: MoveContext, session: Session, side: Side): Promise<void> {
  const found = await session.query<{ gid: string }>(
    "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
  );
  if (found.length === 0) return;
  const gids = found.map(({ gid }) => gid).join(", ");
  const message = `${context.move.database} on ${context[side].instance} has prepared transactions, which may yet write: ${gids}`;
  throw new PgkitError("move-stopped", message, {
    hint: "COMMIT PREPARED or ROLLBACK PREPARED each of them; then pgkit move resume",
  });
}
