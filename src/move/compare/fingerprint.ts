import type { Session } from "../../postgres/session.ts";
import { firstUserOid } from "./kinds-sql.ts";

/** Catalogs that DDL writes; what a statement that only reads or writes rows does not touch. */
const catalogs = [
  ...["pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_trigger", "pg_rewrite", "pg_policy"],
  ...["pg_proc", "pg_type", "pg_enum", "pg_namespace", "pg_operator", "pg_opclass", "pg_opfamily", "pg_cast"],
  ...["pg_collation", "pg_conversion", "pg_language", "pg_event_trigger", "pg_extension", "pg_default_acl"],
  ...["pg_foreign_data_wrapper", "pg_foreign_server", "pg_statistic_ext", "pg_ts_dict", "pg_ts_config"],
];

/** Of those whose rows belong to an object of another catalog. */
const oidColumns: Readonly<Record<string, string>> = { pg_attribute: "attrelid", pg_index: "indexrelid" };

/**
 * Another one after any DDL in the session's database: it is over who wrote each row of the catalogs, and where it lies.
 * VACUUM FULL of a catalog changes it as well. Not over the publications of a move, nor what belongs to the server.
 */
export async function catalogFingerprint(session: Session): Promise<string> {
  const all = catalogs.map(
    (catalog) => `SELECT '${catalog}' AS catalog, count(*) AS rows,
      sum(hashtextextended(xmin::text || ctid::text, 0)) AS hash
      FROM ${catalog} WHERE ${oidColumns[catalog] ?? "oid"} >= ${firstUserOid}`,
  );
  const [row] = await session.query<{ fingerprint: string }>(
    `SELECT md5(string_agg(concat_ws(' ', catalog, rows, hash), ',' ORDER BY catalog COLLATE "C")) AS fingerprint
     FROM (${all.join(" UNION ALL ")}) AS each (catalog, rows, hash)`,
  );
  if (row === undefined) throw new Error("an aggregate gave no row");
  return row.fingerprint;
}
