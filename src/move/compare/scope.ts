import type { Clock } from "../../lib/time.ts";
import { dumpRoles } from "../../postgres/roles.ts";
import type { Session } from "../../postgres/session.ts";
import type { MoveContext } from "../step.ts";
import type { Both } from "./both.ts";
import type { CatalogScope } from "./kinds.ts";

/** The roles that must be alike, and whether both sides may read their passwords. */
export interface ComparedRoles {
  readonly names: readonly string[];
  readonly verifiers: boolean;
}

/** What is to be compared besides the database's own objects; with `roles` that are known it asks nobody. */
export async function scopeOf({ move, clock }: MoveContext, both: Both, roles?: ComparedRoles): Promise<CatalogScope> {
  const { names, verifiers } = roles ?? (await neededRoles(both));
  const lowestMajor = Math.min(move.source.major, move.target.major);
  return { lowestMajor, roles: names, verifiers, salt: saltOf(clock) };
}

/** Those that the database needs on the source. A server's first superuser is its own: a move leaves it as it is. */
async function neededRoles({ source, target }: Both): Promise<ComparedRoles> {
  const [needed, there, bootstrap] = await Promise.all([
    dumpRoles(source),
    readsVerifiers(target),
    bootstrapRoles(target),
  ]);
  const names = needed.names.filter((name) => !bootstrap.includes(name));
  return { names, verifiers: needed.passwordsIncluded && there };
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
