import { identifier } from "../postgres/quote.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";
import type { MoveContext, Side } from "./step.ts";

/**
 * Drops those of the roles on this side that are there and that nothing else uses: no object or grant in any database, no
 * member beside `among`, which belong together, no session, no setting in another database. Says which ones stay, and why.
 */
export async function dropRoles(
  context: MoveContext,
  names: readonly string[],
  { side = "target", among = names }: { side?: Side; among?: readonly string[] } = {},
): Promise<void> {
  const { database } = context[side].connection;
  await context.session(
    side,
    async (session) => {
      const roles = await session.query<{ name: string; use: string | null }>(usesOfRoles, [names, among]);
      for (const { name, use } of roles) {
        if (use !== null) {
          stays(context, side, name, use);
          continue;
        }
        try {
          await session.query(`DROP ROLE IF EXISTS ${identifier(name)}`);
        } catch (error) {
          // dependent_objects_still_exist: somebody began to use it in this moment, or it granted what others have.
          if (sqlStateOf(error) !== "2BP01") throw error;
          stays(context, side, name, error instanceof Error ? error.message : String(error));
        }
      }
    },
    database,
  );
}

function stays({ report, ...context }: MoveContext, side: Side, role: string, why: string): void {
  report({
    type: "warning",
    message: `role ${role} stays on ${context[side].instance}: ${why}`,
    hint: "drop it by hand when nothing needs it any more",
  });
}

const usesOfRoles = `
  SELECT r.rolname AS name, coalesce(
    (SELECT format('%s objects or grants in database %s', count(*), coalesce(d.datname, 'of the server'))
       FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
       WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND s.classid <> 'pg_auth_members'::regclass
       GROUP BY d.datname LIMIT 1),
    (SELECT format('it has the member %s', m.rolname) FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member
       WHERE a.roleid = r.oid AND m.rolname <> ALL ($2) AND m.rolname <> current_user LIMIT 1),
    (SELECT format('it has settings in database %s', d.datname) FROM pg_db_role_setting s
       JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = r.oid LIMIT 1),
    (SELECT format('it is connected to database %s', datname) FROM pg_stat_activity WHERE usesysid = r.oid LIMIT 1)) AS use
  FROM pg_roles r WHERE r.rolname = ANY ($1)`;
