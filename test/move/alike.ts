import type { MoveClusters } from "./support.ts";

/** The same database on both servers, by the same statements, its roles with the same verifiers. */
export async function makeAlike(
  { source, target }: Pick<MoveClusters, "source" | "target">,
  database: string,
  { roles = "", schema }: { roles?: string; schema: string },
): Promise<void> {
  for (const cluster of [source, target]) {
    if (roles !== "") await cluster.psql(roles);
    await cluster.psql(`CREATE DATABASE ${database}`);
    await cluster.psql(`REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC`);
    await cluster.psql(schema, database);
  }
  await sameVerifiers({ source, target });
}

/** A password that was given twice has two verifiers, by their salts; a move copies the verifier. */
export async function sameVerifiers({ source, target }: Pick<MoveClusters, "source" | "target">): Promise<void> {
  const statements = await source.psql(
    "SELECT format('ALTER ROLE %I PASSWORD %L;', rolname, rolpassword) FROM pg_authid WHERE rolpassword IS NOT NULL AND oid <> 10",
  );
  await target.psql(statements === "" ? "SELECT 1" : statements);
}
