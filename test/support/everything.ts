import { fileURLToPath } from "node:url";
import type { Programs } from "../../src/postgres/programs.ts";
import type { Cluster } from "./cluster.ts";
import { relocatedPrograms } from "./relocated.ts";

/** An extension with tables of its own: the user's rows of one of them are in a dump, those of the other are not. */
const rates = `
CREATE TABLE rates (name text PRIMARY KEY, rate numeric, builtin bool DEFAULT false);
INSERT INTO rates VALUES ('zero', 0, true);
CREATE SEQUENCE rates_seq;
CREATE TABLE fixed (x int);
INSERT INTO fixed VALUES (1);
SELECT pg_catalog.pg_extension_config_dump('rates', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('rates_seq', '');
`;

/** PostgreSQL with the extension that `fixtures/everything.sql` needs. Dispose of it after its servers. */
export async function programsForEverything(): Promise<Programs & AsyncDisposable> {
  return relocatedPrograms({ extensions: { pgkit_rates: rates } });
}

/** Makes a database with every kind of object, its name full of characters that need care. */
export async function makeEverything(cluster: Cluster, database: string): Promise<void> {
  await cluster.psql(`CREATE DATABASE "${database.replaceAll('"', '""')}"`);
  const file = fileURLToPath(new URL("../../fixtures/everything.sql", import.meta.url));
  await cluster.program("psql", ["-Xq", "-v", "ON_ERROR_STOP=1", "-f", file], database);
}
