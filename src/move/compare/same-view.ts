import { identifier } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import { sqlStateOf } from "../../postgres/session-errors.ts";
import type { Difference } from "../proof-report.ts";

const probe = "pgkit_same_view";

/**
 * True where the source's text of a view means on the target what the target has: majors print the same view in other
 * words. The target is asked to read the source's text, in a transaction that is rolled back.
 */
export async function sameView(target: Session, { source, target: found }: Difference): Promise<boolean> {
  if (source === undefined || found === undefined) return false;
  try {
    await target.query("BEGIN");
    await target.query(`CREATE TEMPORARY VIEW ${identifier(probe)} AS ${source}`);
    const [view] = await target.query<{ text: string }>("SELECT pg_get_viewdef(to_regclass($1)) AS text", [
      `pg_temp.${probe}`,
    ]);
    return view?.text === found;
  } catch (error) {
    // Syntax or names that the target does not know: then it cannot be the same view.
    if (sqlStateOf(error)?.startsWith("42") === true) return false;
    throw error;
  } finally {
    await target.query("ROLLBACK");
  }
}
