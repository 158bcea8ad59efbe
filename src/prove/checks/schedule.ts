import { formatDuration } from "../../lib/parse.ts";
import { inZone } from "../../lib/parse-time.ts";
import type { Clock } from "../../lib/time.ts";
import type { Manifest } from "../../repo/manifest.ts";
import { cronProblem, type Schedule, scheduleStatus } from "../../schedule.ts";
import type { Found, Ledger } from "../ledger.ts";
import { checkBaseSchedule } from "./base-schedule.ts";
import type { InstanceFacts, InstanceUnderCheck } from "./instance.ts";
import type { RepositoryFacts } from "./repository.ts";
import { some } from "./some.ts";

/** Whether an instance is backed up as it should be, in each of the repositories that could be read. */
export async function checkSchedule(
  open: (subject: string) => Ledger,
  instance: InstanceUnderCheck,
  facts: InstanceFacts | undefined,
  repositories: readonly RepositoryFacts[],
  { clock }: { clock: Clock },
): Promise<void> {
  const { name } = instance;
  const ledger = open(`backups of ${name}`);
  const schedule = await ledger.run("schedule", async (found) => readSchedule(found, instance, clock));
  for (const { url, backups } of repositories) {
    const own = backups.filter((each) => each.instance === name && each.kind === "logical");
    const task = { instance, schedule, url, backups: own, now: clock.now() };
    const databases = facts?.databases;
    if (own.length === 0) {
      await ledger.run("overdue", async (found) =>
        found.warning(`there is no backup of it in ${url}`, `pgkit backup logical --instance ${name}`),
      );
    } else if (databases !== undefined) {
      for (const database of databases) await checkDatabase(ledger, task, database);
      await ledger.run("overdue", async (found) => tellCovered(found, task, databases));
    } else {
      // Which databases there are now is not known, and those that were dropped need no backup.
      await ledger.run("overdue", async (found) => tellNewest(found, task, own, "it"));
    }
    if (facts !== undefined)
      await ledger.run("system id", async (found) => systemId(found, task, facts.server.systemId));
  }
  await checkBaseSchedule(ledger, instance, repositories);
  await ledger.run("retention", async (found) => retention(found, instance));
}

interface Task {
  instance: InstanceUnderCheck;
  schedule: Schedule | undefined;
  url: string;
  backups: readonly Manifest[];
  now: Date;
}

function readSchedule(found: Found, { name, schedule }: InstanceUnderCheck, clock: Clock): Schedule | undefined {
  const { logical: cron, timeZone, graceMs } = schedule;
  if (cron === undefined) {
    found.ok("no schedule is configured, so that nothing can be overdue");
    return undefined;
  }
  const problem = cronProblem(cron);
  if (problem !== undefined) {
    found.error(`'${cron}' ${problem}`, `correct instances.${name}.schedule.logical`, "config");
    return undefined;
  }
  const { next } = scheduleStatus({ cron, timeZone, graceMs }, [], clock.now());
  found.ok(`'${cron}' in ${timeZone}: the next run is at ${inZone(next, timeZone)}`);
  return { cron, timeZone, graceMs };
}

async function checkDatabase(ledger: Ledger, task: Task, database: string): Promise<void> {
  const own = task.backups.filter((each) => each.database === database);
  if (own.length > 0 && !isOverdue(task, own)) return;
  await ledger.about(`database ${task.instance.name}/${database}`).run("overdue", async (found) => {
    if (own.length > 0) return tellNewest(found, task, own, database);
    found.warning(
      `it has no backup in ${task.url}`,
      `pgkit backup logical ${word(database)} --instance ${task.instance.name}`,
    );
  });
}

function isOverdue({ schedule, now }: Task, own: readonly Manifest[]): boolean {
  return schedule !== undefined && scheduleStatus(schedule, runsOf(own), now).overdueSince !== undefined;
}

function tellNewest(found: Found, task: Task, own: readonly Manifest[], database: string) {
  const { schedule, now, url, instance } = task;
  const newest = own.at(-1);
  if (newest === undefined) return;
  const age = formatDuration(now.getTime() - Date.parse(newest.startedAt));
  if (schedule === undefined || !isOverdue(task, own)) return found.ok(`the newest backup in ${url} is ${age} old`);
  const { overdueSince = now } = scheduleStatus(schedule, runsOf(own), now);
  const which = database === "it" ? "" : `${word(database)} `;
  found.error(
    `overdue in ${url}: no run of ${inZone(overdueSince, schedule.timeZone)} or after it has finished; the newest backup is ${age} old`,
    `does the scheduled job run, and what does its log say? by hand: pgkit backup logical ${which}--instance ${instance.name}`,
  );
}

function tellCovered(found: Found, task: Task, databases: readonly string[]) {
  const { schedule, url, backups, now } = task;
  const covered = databases.filter((name) => {
    const own = backups.filter((each) => each.database === name);
    return own.length > 0 && !isOverdue(task, own);
  });
  const newest = backups.at(-1);
  if (newest === undefined || covered.length === 0) return;
  const asked = schedule === undefined ? "a backup" : "the backup that the schedule asks for";
  const age = formatDuration(now.getTime() - Date.parse(newest.startedAt));
  const few = covered.length === databases.length ? `all of ${databases.length}` : some(covered);
  found.ok(`${few} database(s) have ${asked} in ${url}; the newest is ${age} old`);
}

function runsOf(backups: readonly Manifest[]): { startedAt: Date; finishedAt: Date }[] {
  return backups.map(({ startedAt, finishedAt }) => ({
    startedAt: new Date(startedAt),
    finishedAt: new Date(finishedAt),
  }));
}

/** Two clusters under one name happen by a new initdb, an upgrade by pg_upgrade, or two instances of one name. */
function systemId(found: Found, { url, backups, instance }: Task, now: string) {
  const newest = backups.at(-1);
  if (newest === undefined) return;
  const before = newest.server.systemId;
  if (before === now) return found.ok(`the server is the one that was backed up last into ${url}`);
  found.warning(
    `the server has the system id ${now}, and ${newest.id} in ${url} is of ${before}: another cluster answers to the name ${instance.name}`,
    "if it was upgraded or made anew, go on: old backups restore as before and are kept by their own count; else correct its url or give it another name",
  );
}

function retention(found: Found, { name, retention: { logical } }: InstanceUnderCheck) {
  const rules = Object.entries(logical).map(([rule, value]) =>
    rule === "windowMs" ? `window ${formatDuration(Number(value))}` : `${rule} ${value}`,
  );
  if (rules.length > 0) return found.ok(rules.join(", "));
  found.ok(`none is configured: nothing is ever removed (instances.${name}.retention)`);
}

/** For a shell. */
function word(text: string): string {
  return /^[A-Za-z0-9_.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
