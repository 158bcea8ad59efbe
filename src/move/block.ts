import { PgkitError } from "../lib/errors.ts";
import { keepClosed } from "./close-database.ts";
import type { MoveContext } from "./step.ts";
import { blockWritesStep } from "./steps/block-writes.ts";

/**
 * The last thing before the application is pointed at the target: the source's deadline is taken away, and nothing was
 * written after the block. Fails with `move-stopped` where the deadline had passed already; then the source is open.
 */
export async function makePermanent(context: MoveContext): Promise<void> {
  const closed = context.resultOf(blockWritesStep);
  if (closed === undefined) {
    throw new PgkitError("move-stopped", `writes on ${context.source.instance} are not blocked`, {
      hint: "pgkit move resume",
    });
  }
  await keepClosed(context, "source", closed);
}
