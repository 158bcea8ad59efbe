import { formatDuration } from "../../lib/parse.ts";
import { inZone } from "../../lib/parse-time.ts";
import type { Manifest } from "../../repo/manifest.ts";
import { cronProblem, type Schedule, scheduleStatus } from "../../schedule.ts";
import type { Found, Ledger } from "../ledger.ts";
import type { InstanceUnderCheck } from "./instance.ts";
import type { RepositoryFacts } from "./repository.ts";

/** Whether base backups are made as they should be; says nothing where there are none and none are asked for. */
export async function checkBaseSchedule(
  ledger: Ledger,
  instance: InstanceUnderCheck,
  repositories: readonly RepositoryFacts[],
): Promise<void> {
  const { base: cron } = instance.schedule;
  const schedule =
    cron === undefined ? undefined : await ledger.run("base schedule", async (found) => read(found, instance, cron));
  for (const { url, backups } of repositories) {
    const own = backups.filter((each) => each.instance === instance.name && each.kind === "base");
    if (cron === undefined && own.length === 0) continue;
    await ledger.run("base overdue", async (found) => tellNewest(found, { instance, schedule, url, own }));
  }
}

function read(found: Found, { name, schedule }: InstanceUnderCheck, cron: string): Schedule | undefined {
  const { timeZone, graceMs } = schedule;
  const problem = cronProblem(cron);
  if (problem !== undefined) {
    found.error(`'${cron}' ${problem}`, `correct instances.${name}.schedule.base`, "config");
    return undefined;
  }
  const { next } = scheduleStatus({ cron, timeZone, graceMs }, [], found.now());
  found.ok(`'${cron}' in ${timeZone}: the next base backup is at ${inZone(next, timeZone)}`);
  return { cron, timeZone, graceMs };
}

interface Task {
  instance: InstanceUnderCheck;
  schedule: Schedule | undefined;
  url: string;
  /** Base backups, oldest first. */
  own: readonly Manifest[];
}

function tellNewest(found: Found, { instance, schedule, url, own }: Task) {
  const now = found.now();
  const newest = own.at(-1);
  const byHand = `pgkit backup base --instance ${instance.name}`;
  if (newest === undefined) return found.warning(`there is no base backup of it in ${url}`, byHand);
  const age = formatDuration(now.getTime() - Date.parse(newest.startedAt));
  const runs = own.map((each) => ({ startedAt: new Date(each.startedAt), finishedAt: new Date(each.finishedAt) }));
  const late = schedule && scheduleStatus(schedule, runs, now).overdueSince;
  if (schedule === undefined || late === undefined) return found.ok(`the newest base backup in ${url} is ${age} old`);
  found.error(
    `overdue in ${url}: no base backup of ${inZone(late, schedule.timeZone)} or after it has finished; the newest is ${age} old`,
    `does the scheduled job run, and what does its log say? by hand: ${byHand}`,
  );
}
