import { isPgkitError } from "../../lib/errors.ts";
import { formatDuration } from "../../lib/parse.ts";
import { inZone } from "../../lib/parse-time.ts";
import type { FinishedRun, ScheduleStatus } from "../../schedule.ts";
import type { Command, CommandContext } from "../command.ts";
import type { InstanceConfig } from "../config.ts";
import { table } from "../text.ts";

/** Gives the finished backups of an instance and a kind. */
export type FinishedRuns = (instance: InstanceConfig, kind: "logical" | "base") => Promise<readonly FinishedRun[]>;

export const scheduleCommand: Command = {
  name: "schedule",
  summary: "Show the previous, next and overdue runs of each instance",
  arguments: [],
  options: [],
  examples: [
    { line: "pgkit schedule", does: "every instance with a schedule" },
    { line: "pgkit schedule --instance shared --json", does: "one instance, for a script" },
  ],
  run: async (context) => showSchedule(context, finishedRuns(context)),
};

/** From every repository; a run that one of them does not have was not done, so the one with the oldest newest counts. */
function finishedRuns(context: CommandContext): FinishedRuns {
  return async (instance, kind) => {
    const { listBackups } = await import("../../repo/backups.ts");
    const { signal } = context;
    const runs = context.config.repositories.map(async (config): Promise<FinishedRun[]> => {
      const repository = await context.openRepository(config).catch((error: unknown) => {
        if (isPgkitError(error, "repository-missing")) return undefined;
        throw error;
      });
      if (repository === undefined) return [];
      const { backups } = await listBackups(repository, { instance: instance.name, signal });
      return backups
        .filter((backup) => backup.kind === kind)
        .map((backup) => ({ startedAt: new Date(backup.startedAt), finishedAt: new Date(backup.finishedAt) }));
    });
    const newest = (list: readonly FinishedRun[]) => Math.max(0, ...list.map((run) => run.startedAt.getTime()));
    return (await Promise.all(runs)).reduce((worst, each) => (newest(each) < newest(worst) ? each : worst));
  };
}

/** Prints one row for each instance and kind with a schedule; `finished` tells which backups there are. */
export async function showSchedule(context: CommandContext, finished: FinishedRuns): Promise<number> {
  const { scheduleStatus } = await import("../../schedule.ts");
  const now = context.clock.now();
  const rows: Row[] = [];
  for (const instance of context.instances()) {
    for (const kind of ["logical", "base"] as const) {
      const { [kind]: cron, timeZone, graceMs } = instance.schedule;
      if (cron === undefined) continue;
      const status = scheduleStatus({ cron, timeZone, graceMs }, await finished(instance, kind), now);
      rows.push({ instance: instance.name, kind, cron, timeZone, ...status });
    }
  }
  context.out.result({ json: { now, runs: rows }, text: () => textOf(rows, now) });
  return 0;
}

interface Row extends ScheduleStatus {
  readonly instance: string;
  readonly kind: "logical" | "base";
  readonly cron: string;
  readonly timeZone: string;
}

function textOf(rows: readonly Row[], now: Date): string {
  if (rows.length === 0) return "no instance has a schedule: see `schedule:` in docs/reference.md";
  const columns = ["INSTANCE", "KIND", "CRON", "PREVIOUS", "NEXT", "LAST STARTED", "OVERDUE"];
  return table(
    columns.map((title) => ({ title })),
    rows.map((row) => [
      row.instance,
      row.kind,
      row.cron,
      inZone(row.previous, row.timeZone),
      inZone(row.next, row.timeZone),
      row.lastStartedAt === undefined ? "never" : inZone(row.lastStartedAt, row.timeZone),
      row.overdueSince === undefined ? "no" : `for ${formatDuration(now.getTime() - row.overdueSince.getTime())}`,
    ]),
  );
}
