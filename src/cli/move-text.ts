import { formatBytes, formatDuration } from "../lib/parse.ts";
import type { JournalView } from "../move/journal.ts";
import type { Assessment } from "../move/preflight.ts";
import type { ProofReport } from "../move/proof-report.ts";
import type { MoveFacts, Risk } from "../move/step.ts";
import { harmless } from "./text.ts";

/** What `--json` shows of a move. */
export function moveJson(
  { facts, state, message, writeBlockedMs, steps, begunAt, changedAt }: JournalView,
  proof: ProofReport | undefined,
) {
  return {
    ...{
      id: facts.id,
      database: facts.database,
      mode: facts.mode,
      from: facts.source.instance,
      to: facts.target.instance,
    },
    ...{ state, begunAt, changedAt, writeBlockedMs },
    ...(message === undefined ? {} : { message }),
    steps: [...steps].map(([name, { isDone, at }]) => ({ name, state: isDone ? "done" : "begun", at })),
    ...(proof === undefined ? {} : { proof }),
  };
}

export function moveText(move: JournalView, proof: string | undefined): string {
  const { facts, state, message, writeBlockedMs, steps } = move;
  const { database, source, target } = facts;
  const last = [...steps].at(-1);
  return harmless(
    [
      `${database}: ${source.instance} -> ${target.instance}, ${facts.mode}, ${state}`,
      ...(message === undefined ? [] : [`  ${message}`]),
      ...(writeBlockedMs === undefined ? [] : [`  writes were blocked for ${formatDuration(writeBlockedMs)}`]),
      ...(state === "switched" || last === undefined
        ? []
        : [`  last step: ${last[0]}${last[1].isDone ? "" : ", not done"}`]),
      ...(proof === undefined ? [] : [proof]),
      ...nextSteps(move).map((line) => `  ${line}`),
    ].join("\n"),
  );
}

/** What to type next, and what must be told to whoever keeps the configuration. */
function nextSteps({ state, facts: { database, application, target, source, options } }: JournalView): string[] {
  const key = `applications.${application}.instance`;
  switch (state) {
    case "switched":
      return [
        ...(application === undefined ? [] : [`set ${key} to ${target.instance} in the configuration`]),
        `the old database on ${source.instance} takes every write, and nobody can connect to it`,
        ...(options.reverseFeed
          ? [`back, with every write: pgkit move rollback ${database}`]
          : ["there is no way back"]),
        `when all is well: pgkit move finish ${database} drops the old database`,
      ];
    case "stopped":
    case "moving":
    case "rolling-back":
      return [`on: pgkit move resume ${database}; back: pgkit move rollback ${database}`];
    case "finishing":
      return [`on: pgkit move resume ${database}`];
    case "rolled-back":
    case "finished":
      return [];
  }
}

/** What `--dry-run` shows. */
export function planText(
  facts: Pick<MoveFacts, "database" | "mode">,
  [from, to]: readonly [string, string],
  steps: readonly { name: string; does: string }[],
  { risks, estimates }: Assessment,
): string {
  const { bytes, tables, seconds, blockMs } = estimates;
  const wide = Math.max(...steps.map(({ name }) => name.length));
  return harmless(
    [
      `move ${facts.database} from ${from} to ${to}, ${facts.mode}`,
      `  ${tables} tables, ${formatBytes(bytes)}; about ${formatDuration(seconds * 1000)}`,
      ...(blockMs === undefined ? [] : [`  writes blocked for about ${formatDuration(blockMs)}`]),
      ...steps.map(({ name, does }) => `  ${name.padEnd(wide)}  ${does}`),
      ...riskLines(risks),
    ].join("\n"),
  );
}

function riskLines(risks: readonly Risk[]): string[] {
  if (risks.length === 0) return ["  no risk was found"];
  return risks.flatMap(({ level, message, hint }) => [`${level}: ${message}`, `  ${hint}`]);
}
