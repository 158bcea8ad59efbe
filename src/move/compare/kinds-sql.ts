/** True for what an extension made: CREATE EXTENSION makes it again, perhaps otherwise in its other version. */
export function ofExtension(catalog: string, oid: string): string {
  return `EXISTS (SELECT FROM pg_depend e WHERE e.classid = '${catalog}'::regclass AND e.objid = ${oid} AND e.deptype = 'e')`;
}

/** The first oid that initdb has not given itself. */
export const firstUserOid = 16_384;

/** What pgkit makes for the time of a move is on one side only. */
export function notOurs(name: string): string {
  return `${name} !~ '^pgkit_'`;
}

/** An array as JSON, in an order that does not depend on how it came about. */
export function sortedArray(array: string): string {
  return `(SELECT jsonb_agg(x ORDER BY x COLLATE "C") FROM unnest(${array}) AS x)`;
}

/** Schemas that are the server's own or of a session. */
export const userSchema = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`;
