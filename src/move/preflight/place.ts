import { formatBytes } from "../../lib/parse.ts";
import { identifier, literal } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import { sqlStateOf } from "../../postgres/session-errors.ts";
import { type Found, type Known, refusal, some, warning } from "./known.ts";

/** Whether the database can be made on the target as it is on the source, and has room there. */
export async function placeRisks(known: Known): Promise<Found[]> {
  const { context } = known;
  const [locale, disk] = await context.session(
    "target",
    async (session) => [await localeRisks(known, session), await diskRisks(known, session)] as const,
    context.target.connection.database,
  );
  return [...nameRisks(known), ...tablespaceRisks(known), ...preparedRisks(known), ...locale, ...disk];
}

function nameRisks({ context: { move, target: to }, target }: Known): Found[] {
  if (target.named === null || target.named.comment?.startsWith(`pgkit move ${move.id}`)) return [];
  const old = identifier(`${move.database}_old`);
  const message = `${to.instance} has a database ${move.database} already`;
  const remedy = `ALTER DATABASE ${identifier(move.database)} RENAME TO ${old}, or DROP DATABASE it where nobody needs it`;
  return [refusal(message, remedy)];
}

/** A tablespace that is missing is replaced by the default one, as in a restore. */
function tablespaceRisks({ context, target, database }: Known): Found[] {
  const missing = [...new Set([database.tablespace, ...database.tablespaces])].filter(
    (name) => !target.tablespaces.includes(name),
  );
  if (missing.length === 0) return [];
  const hint = missing.map((name) => `CREATE TABLESPACE ${identifier(name)} LOCATION '...'`).join("; ");
  const message = `${context.target.instance} lacks the tablespaces ${some(missing)}: what is in them goes into the default one`;
  return [warning(message, hint)];
}

function preparedRisks({ context, source, target }: Known): Found[] {
  const [here, there] = [source, target].map(({ settings }) => Number(settings["max_prepared_transactions"] ?? 0));
  if (here === undefined || there === undefined || here <= there) return [];
  const message = `max_prepared_transactions is ${there} on ${context.target.instance} and ${here} on ${context.source.instance}`;
  return [
    warning(
      message,
      `ALTER SYSTEM SET max_prepared_transactions = ${here}, then restart the server, where the application prepares transactions`,
    ),
  ];
}

/** The server is asked to make a collation of this locale, in a transaction that is rolled back. */
async function localeRisks({ context, database }: Known, session: Session): Promise<Found[]> {
  const { provider, collate, ctype, locale, icuRules } = database.locale;
  const to = context.target.instance;
  const clauses = [
    {
      what: `locale ${collate}`,
      sql: `provider = libc, lc_collate = ${literal(collate)}, lc_ctype = ${literal(ctype)}`,
    },
    ...(provider === "icu" && locale !== undefined
      ? [
          {
            what: `ICU locale ${locale}`,
            sql: `provider = icu, locale = ${literal(locale)}${icuRules === undefined ? "" : `, rules = ${literal(icuRules)}`}`,
          },
        ]
      : []),
    ...(provider === "builtin" && locale !== undefined
      ? [{ what: `builtin locale ${locale}`, sql: `provider = builtin, locale = ${literal(locale)}` }]
      : []),
  ];
  const risks: Found[] = [];
  for (const { what, sql } of clauses) {
    const probe = await probeCollation(session, sql);
    if (probe.error !== undefined) {
      risks.push(
        refusal(
          `${to} does not know the ${what} of the database: ${probe.error}`,
          `install it on the machine of ${to} (locale-gen), then restart the server`,
        ),
      );
    } else if (provider !== "libc" || what.startsWith("locale")) {
      risks.push(...versionRisks(database, probe.version, to));
    }
  }
  return risks;
}

/** Of a locale that has versions on both sides. */
function versionRisks(
  { actualCollationVersion, locale }: Known["database"],
  version: string | null,
  to: string,
): Found[] {
  if (actualCollationVersion === null || version === null || version === actualCollationVersion) return [];
  if (locale.provider === "libc" && ["C", "POSIX"].includes(locale.collate)) return [];
  const message = `text is sorted by version ${version} of the locale on ${to}, and by ${actualCollationVersion} on the source`;
  const hint = "indexes are built anew and are right; check range partitions and CHECK constraints that compare text";
  return [warning(message, hint)];
}

async function probeCollation(session: Session, clause: string): Promise<{ error?: string; version: string | null }> {
  try {
    await session.query("BEGIN");
    await session.query(`CREATE COLLATION pg_temp.pgkit_probe (${clause})`);
    const [row] = await session.query<{ version: string | null }>(
      "SELECT pg_collation_actual_version(oid) AS version FROM pg_collation WHERE collname = 'pgkit_probe'",
    );
    return { version: row?.version ?? null };
  } catch (error) {
    if (sqlStateOf(error) === undefined || !(error instanceof Error)) throw error;
    return { error: error.message, version: null };
  } finally {
    await session.query("ROLLBACK");
  }
}

/** A copy with its indexes takes about as much as the original; WAL and sorting come on top. */
const spareFactor = 1.3;

async function diskRisks({ context, target, database }: Known, session: Session): Promise<Found[]> {
  const to = context.target.instance;
  const size = formatBytes(database.sizeBytes);
  const free = target.superuser ? await freeBytes(session) : undefined;
  if (free === undefined) {
    const message = `how much disk is free on ${to} cannot be asked: the database takes ${size}`;
    return database.sizeBytes < unaskedBytes
      ? []
      : [warning(message, "look for yourself, on the machine of its data directory")];
  }
  if (free >= database.sizeBytes * spareFactor) return [];
  const message = `${to} has ${formatBytes(free)} of disk free, and the database takes ${size}`;
  return [
    free < database.sizeBytes
      ? refusal(message, "free space there, or give it a larger disk")
      : warning(message, "sorting and WAL need some on top: give it more"),
  ];
}

/** Too small to fill a disk. */
const unaskedBytes = 256 * 1024 * 1024;

/** Best effort: of the file system of the data directory, by `df`; `undefined` where the server has none. */
async function freeBytes(session: Session): Promise<number | undefined> {
  try {
    await session.query("BEGIN");
    await session.query("CREATE TEMPORARY TABLE pgkit_df (line text) ON COMMIT DROP");
    await session.query(
      "COPY pg_temp.pgkit_df FROM PROGRAM 'df -Pk .' WITH (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')",
    );
    const [row] = await session.query<{ line: string }>(
      "SELECT line FROM pg_temp.pgkit_df WHERE line !~ '^Filesystem' LIMIT 1",
    );
    const kilobytes = /^\S+\s+\d+\s+\d+\s+(\d+)\s/.exec(row?.line ?? "")?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch (error) {
    // The program is missing, or may not be run: then it is unknown.
    if (sqlStateOf(error) === undefined) throw error;
    return undefined;
  } finally {
    await session.query("ROLLBACK");
  }
}
