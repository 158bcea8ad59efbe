import type { Clock } from "../../lib/time.ts";
import { dumpRoles } from "../../postgres/roles.ts";
import type { Session } from "../../postgres/session.ts";
import type { MoveContext } from "../step.ts";
import type { Both } from "./both.ts";
import type { CatalogScope } from "./kinds.ts";

/** What is to be compared besides the database's own objects: the roles that it needs on the source. */
export async function scopeOf({ move, clock }: MoveContext, { source, target }: Both): Promise<CatalogScope> {
  const [needed, there, bootstrap] = await Promise.all([
    dumpRoles(source),
    readsVerifiers(target),
    bootstrapRoles(target),
  ]);
  return {
    lowestMajor: Math.min(move.source.major, move.target.major),
    // A server's first superuser is its own: a move leaves it as it is.
    roles: needed.names.filter((name) => !bootstrap.includes(name)),
    verifiers: needed.passwordsIncluded && there,
    salt: saltOf(clock),
  };
}

async function readsVerifiers(session: Session): Promise<boolean> {
  const [row] = await session.query<{ readable: boolean }>(
    "SELECT has_column_privilege('pg_authid', 'rolpassword', 'SELECT') AS readable",
  );
  return row?.readable === true;
}

async function bootstrapRoles(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>("SELECT rolname AS name FROM pg_roles WHERE oid = 10");
  return rows.map(({ name }) => name);
}

function saltOf(clock: Clock): string {
  return Array.from({ length: 4 }, () => clock.random().toString(36).slice(2)).join("");
}
