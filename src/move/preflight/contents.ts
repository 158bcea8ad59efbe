import { formatBytes } from "../../lib/parse.ts";
import { identifier } from "../../postgres/quote.ts";
import { type Found, type Known, onlineRefusal, refusal, some, warning } from "./known.ts";

/** What is in the database that does not travel, or not by every way. */
export function contentRisks(known: Known): Found[] {
  return [
    ...[...replicaIdentityRisks(known), ...equalityRisks(known), ...unreplicatedRisks(known)],
    ...[...bindingRisks(known), ...outsideRisks(known)],
  ];
}

function replicaIdentityRisks({ context, database }: Known): Found[] {
  if (context.move.mode === "offline") return [];
  const slow = database.fullWithoutIndex.filter(({ bytes }) => bytes > slowBytes);
  return [
    ...database.bare.map((table) =>
      onlineRefusal(
        `table ${table.name} has no replica identity: once it is published, the application's UPDATE and DELETE fail`,
        identityRemedy(table),
      ),
    ),
    ...slow.map(({ name, bytes }) =>
      warning(
        `table ${name} (${formatBytes(bytes)}) has no unique index: each UPDATE reads all of it on the target`,
        `give it a primary key: ALTER TABLE ${name} ADD PRIMARY KEY (...)`,
      ),
    ),
  ];
}

/**
 * Where a row is told by all its columns, the receiving side compares them, and gives up at the first UPDATE or DELETE where a
 * type has no equality. Offline, tables without a key are told so on the way back.
 */
function equalityRisks({ context: { move }, database }: Known): Found[] {
  return database.uncomparable.flatMap(({ name, columns, full }): Found[] => {
    const what = `rows of table ${name} are told by all columns, and ${columns.join(", ")} cannot be compared for equality`;
    const remedy = `give it a primary key: ALTER TABLE ${name} ADD PRIMARY KEY (...)`;
    if (move.mode === "online")
      return full ? [onlineRefusal(`${what}: an UPDATE or DELETE would stop the copy`, remedy)] : [];
    return move.options.reverseFeed
      ? [warning(`${what}: an UPDATE or DELETE on the target ends the way back`, remedy)]
      : [];
  });
}

const slowBytes = 10 * 1024 * 1024;

/** A statement that can be run as it is. */
function identityRemedy({ name, index, nullable }: Known["database"]["bare"][number]): string {
  if (index === null)
    return `ALTER TABLE ${name} REPLICA IDENTITY FULL, or better ALTER TABLE ${name} ADD PRIMARY KEY (...)`;
  const using = `ALTER TABLE ${name} REPLICA IDENTITY USING INDEX ${index}`;
  if (nullable.length === 0) return using;
  const notNull = nullable.map((column) => `ALTER COLUMN ${identifier(column)} SET NOT NULL`).join(", ");
  return `ALTER TABLE ${name} REPLICA IDENTITY FULL, or ALTER TABLE ${name} ${notNull}; ${using}`;
}

function unreplicatedRisks({ context, database }: Known): Found[] {
  const { mode, options } = context.move;
  const risks: Found[] = [];
  if (mode === "online") {
    for (const name of database.unlogged)
      risks.push(
        onlineRefusal(`table ${name} is unlogged: its rows are not replicated`, `ALTER TABLE ${name} SET LOGGED`),
      );
    if (database.largeObjects > 0) {
      risks.push(
        onlineRefusal(
          `the database has ${database.largeObjects} large objects, which are not replicated`,
          noLargeObjects,
        ),
      );
    }
  } else if (options.reverseFeed && (database.largeObjects > 0 || database.unlogged.length > 0)) {
    const what = [
      ...(database.largeObjects > 0 ? [`${database.largeObjects} large objects`] : []),
      ...(database.unlogged.length > 0 ? [`unlogged tables ${some(database.unlogged)}`] : []),
    ].join(" and ");
    risks.push(
      warning(
        `what is written to ${what} after the switch does not come back with a rollback`,
        "mind that before a rollback",
      ),
    );
  }
  return risks;
}

const noLargeObjects = "drop them where nothing uses them (vacuumlo finds those)";

/** What ties the database to its server. */
function bindingRisks({ database }: Known): Found[] {
  const { prepared, slots, subscribed, publications } = database;
  const enabled = subscribed.filter((each) => each.enabled).map(({ name }) => name);
  const disabled = subscribed.filter((each) => !each.enabled).map(({ name }) => name);
  return [
    ...prepared.map((gid) =>
      refusal(
        `a prepared transaction is open: ${gid}; it holds its locks, and would be left behind`,
        `COMMIT PREPARED '${gid}' or ROLLBACK PREPARED '${gid}'`,
      ),
    ),
    ...enabled.map((name) =>
      refusal(
        `subscription ${name} writes into the database, and a move cannot stop the server that it comes from`,
        `ALTER SUBSCRIPTION ${name} DISABLE`,
      ),
    ),
    ...(disabled.length === 0
      ? []
      : [
          warning(
            `subscriptions are not moved: ${some(disabled)}`,
            "make them anew on the target, when the move is done",
          ),
        ]),
    ...(publications.length === 0
      ? []
      : [
          warning(
            `subscribers of the publications ${some(publications)} stay with the source`,
            "point them to the target by hand: ALTER SUBSCRIPTION ... CONNECTION",
          ),
        ]),
    ...slotRisks(slots),
  ];
}

function slotRisks(slots: readonly string[]): Found[] {
  if (slots.length === 0) return [];
  return [
    warning(
      `the replication slots ${some(slots)} are of this database and are not moved; pgkit move finish cannot drop it while they are there`,
      slots.map((slot) => `SELECT pg_drop_replication_slot('${slot}')`).join("; "),
    ),
  ];
}

/** What the database needs of the world around the target. */
function outsideRisks({ context, database }: Known): Found[] {
  const { foreignServers, eventTriggers, libraries, extensionSequences } = database;
  const to = context.target.instance;
  return [
    ...(extensionSequences.length === 0
      ? []
      : [
          warning(
            `the values of the sequences ${some(extensionSequences)} are not carried over: they belong to extensions`,
            `set them on ${to} after the move: SELECT setval('...', ...)`,
          ),
        ]),
    ...(foreignServers.length === 0
      ? []
      : [
          warning(
            `${to} must reach what the foreign servers ${some(foreignServers)} lead to`,
            "check their host and port from there",
          ),
        ]),
    ...(eventTriggers.length === 0
      ? []
      : [
          warning(
            `the event triggers ${some(eventTriggers)} fire for DDL on the target too`,
            "look whether they would refuse what a move makes there",
          ),
        ]),
    ...(libraries.length === 0
      ? []
      : [
          warning(
            `functions in C need these libraries on ${to}: ${some(libraries)}`,
            "install them there before the move",
          ),
        ]),
  ];
}
