import { PgkitError } from "../../lib/errors.ts";
import type { Difference } from "../proof-report.ts";
import { differenceText } from "../proof-text.ts";

/** Differences that a message names; the report has them all. */
const named = 8;

export function proofFailed(database: string, differences: readonly Difference[], hint = beforeSwitch): PgkitError {
  const texts = differences.slice(0, named).map(differenceText);
  const more = differences.length - texts.length;
  const rest = more > 0 ? `; and ${more} more` : "";
  return new PgkitError("proof-failed", `source and target of ${database} differ: ${texts.join("; ")}${rest}`, {
    hint,
  });
}

const beforeSwitch =
  "the application is still on the source: make both alike and resume, or give the move up with pgkit move rollback";
