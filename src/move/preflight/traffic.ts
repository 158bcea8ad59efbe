import { type Found, type Known, some, warning } from "./known.ts";

/** Who uses the database now: each that is not switched is left behind. */
export function trafficRisks({ context: { source }, database }: Known): Found[] {
  // One role by one name from several addresses is one application with several replicas.
  const clients = database.sessions.map(
    ({ user, application }) => `${user}${application === "" ? "" : ` (${application})`}`,
  );
  const unique = [...new Set(clients)];
  if (unique.length < 2) return [];
  const message = `${unique.length} different clients use the database on ${source.instance} now: ${some(unique)}`;
  return [warning(message, "each that is not pointed to the target by the switch is refused on the source afterwards")];
}
