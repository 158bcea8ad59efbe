import { PgkitError } from "../../lib/errors.ts";
import type { RestoreContext, ServerAnswer, Step } from "../facts.ts";
import { restoreVolumeStep } from "./restore-volume.ts";

/** What the server says of itself, where it can be reached from here. */
export interface Answered {
  readonly answer?: ServerAnswer | undefined;
}

export const answersStep: Step<undefined, Answered> = {
  name: "answers",
  does: "asks the server, where it can be reached from here, whether it is what was restored",
  check: async () => "todo",
  run: async ({ ask, report, signal }) => {
    const answer = await ask(signal);
    if (answer !== undefined) return { answer };
    const message =
      "the server cannot be reached from here: its Pod is ready, and the base backup that follows asks it";
    report({ type: "note", message });
    return {};
  },
  verify: async (context, { answer }) => {
    if (answer !== undefined) verifyAnswer(context, answer);
  },
  undo: async () => undefined,
};

/** Fails with `verification-failed` where it is not what was restored; says which databases of the base backup it has not. */
function verifyAnswer({ restore, report, resultOf }: RestoreContext, answer: ServerAnswer): void {
  const reached = resultOf(restoreVolumeStep)?.reached;
  const wrong = [
    ...(answer.systemId === restore.systemId ? [] : [`its system id is ${answer.systemId}, not ${restore.systemId}`]),
    ...(answer.inRecovery ? ["it is in recovery still"] : []),
    ...(reached === undefined || answer.timeline >= reached.timeline
      ? []
      : [`it is on timeline ${answer.timeline}, not ${reached.timeline}`]),
  ];
  if (wrong.length > 0) {
    throw new PgkitError("verification-failed", `${restore.instance} is not what was restored: ${wrong.join("; ")}`, {
      hint: "does instances.X.url lead to this StatefulSet? --rollback puts the old data back",
    });
  }
  const missing = restore.databases.filter((name) => !answer.databases.includes(name));
  if (missing.length === 0) return;
  const message = `databases of backup ${restore.backup} that are not there at the target: ${missing.join(", ")}`;
  report({ type: "warning", message, hint: "had they been dropped by then?" });
}
