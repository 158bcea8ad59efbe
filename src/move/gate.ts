import { identifier, literal } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";
import type { MoveContext, Side } from "./step.ts";

/**
 * A closed database lets nobody in but pgkit. For a superuser that is CONNECTION LIMIT 0, which keeps out all that are none.
 * On a managed server, where pgkit's role is none itself and would be kept out too, nobody else has the privilege CONNECT.
 */
const closed = `CASE WHEN current_setting('is_superuser')::bool THEN datconnlimit = 0
  ELSE NOT EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a
    WHERE a.privilege_type = 'CONNECT' AND a.grantee <> current_user::regrole) END`;

/** `undefined` where there is no such database. */
export async function isClosed(session: Session, database: string): Promise<boolean | undefined> {
  const [row] = await session.query<{ closed: boolean }>(
    `SELECT ${closed} AS closed FROM pg_database WHERE datname = $1`,
    [database],
  );
  return row?.closed;
}

/** One statement. Sessions that are in the database stay in it. */
export function closeStatement(database: string): string {
  const name = identifier(database);
  return `DO ${literal(`DECLARE who text;
    BEGIN
      IF current_setting('is_superuser')::bool THEN
        ALTER DATABASE ${name} CONNECTION LIMIT 0;
      ELSE
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', ${literal(database)}, current_user);
        FOR who IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
          FROM pg_database, aclexplode(datacl) AS a WHERE datname = ${literal(database)}
            AND a.privilege_type = 'CONNECT' AND a.grantee <> current_user::regrole
        LOOP
          EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM %s CASCADE', ${literal(database)}, who);
        END LOOP;
      END IF;
    END`)}`;
}

/** Takes back what `closeStatement` gave pgkit's own role; as the owner's member it comes in without. For the end of a move. */
export function forgetStatement(database: string): string {
  return `DO ${literal(`BEGIN IF NOT current_setting('is_superuser')::bool THEN
    EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM %I', ${literal(database)}, current_user); END IF; END`)}`;
}

/** Statements of PL/pgSQL. `limit` is the database's connection limit; repeated, they change nothing. */
export function openingStatements(context: MoveContext, side: Side, limit: number): string {
  const name = identifier(context.move.database);
  const grants =
    side === "target" ? connectsOf(context).map((who) => `GRANT CONNECT ON DATABASE ${name} TO ${who};`) : [];
  const give =
    grants.length === 0 ? "" : `IF NOT current_setting('is_superuser')::bool THEN ${grants.join(" ")} END IF;`;
  return `ALTER DATABASE ${name} CONNECTION LIMIT ${limit}; ${give}`;
}

/** Who may connect, as on the source when the database was made; as SQL spells them. */
function connectsOf({ planOf }: MoveContext): readonly string[] {
  return planOf<{ connects?: readonly string[] }>({ name: "create-database" })?.connects ?? [];
}
