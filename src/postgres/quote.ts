/** `name` quoted as an SQL identifier. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** `text` quoted as an SQL string, whatever standard_conforming_strings says. */
export function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`;
  return text.includes("\\") ? ` E${quoted}` : quoted;
}

/**
 * Settings whose stored value is a list of names that PostgreSQL has quoted already (GUC_LIST_QUOTE); quoted as one
 * string they would be one name. The list is pg_dump's own, in src/bin/pg_dump/dumputils.c.
 */
const quotedLists: readonly string[] = [
  "local_preload_libraries",
  "search_path",
  "session_preload_libraries",
  "shared_preload_libraries",
  "temp_tablespaces",
  "unix_socket_directories",
];

/** `SET name TO value` out of an entry `name=value` of pg_db_role_setting. */
export function settingClause(entry: string): string {
  const name = entry.slice(0, entry.indexOf("="));
  const value = entry.slice(name.length + 1);
  const isList = quotedLists.includes(name.toLowerCase());
  const quoted = isList ? namesIn(value).map(literal).join(", ") || "''" : literal(value);
  // A setting of an extension has a dot between two names.
  return `SET ${name.split(".").map(identifier).join(".")} TO ${quoted}`;
}

/** The names of a list such as `"$user", public`. */
function namesIn(list: string): string[] {
  return [...list.matchAll(/"((?:[^"]|"")*)"|([^\s,"]+)/g)].map(
    ([, quoted, plain = ""]) => quoted?.replaceAll('""', '"') ?? plain,
  );
}
