import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import { checkArchiving } from "./checks/archiving.ts";
import { checkInstance, type InstanceUnderCheck } from "./checks/instance.ts";
import { checkMachine } from "./checks/machine.ts";
import { checkRepository, type RepositoryUnderCheck } from "./checks/repository.ts";
import { checkSchedule } from "./checks/schedule.ts";
import type { Finding } from "./finding.ts";
import { type Ledger, ledger, type Watch } from "./ledger.ts";

export interface CheckRequest {
  instances: readonly InstanceUnderCheck[];
  repositories: readonly RepositoryUnderCheck[];
  /** Where temporary files go. */
  scratchFolder: string;
  timeZone: string;
  /** Nothing is written to the repositories; what cannot be seen so is named. */
  dryRun: boolean;
  /** A check that takes longer has failed. */
  deadlineMs: number;
  clock: Clock;
  signal: AbortSignal;
  report: Report;
}

export interface CheckResult {
  /** This machine, the instances, the repositories, the backups: each in the order of the configuration. */
  findings: Finding[];
  /** Errors that no check should have met, to be shown with their stacks. */
  bugs: unknown[];
}

/**
 * Tries everything that backups and restores need. No check stops another: what goes wrong is a finding. Fails only when
 * the signal is aborted. Writes to a repository only under `probe/`, removes that again, and never makes a repository.
 */
export async function check(request: CheckRequest): Promise<CheckResult> {
  const { instances, repositories } = request;
  const ledgers: Ledger[] = [];
  const open = (subject: string): Ledger => {
    const opened = ledger(subject, request satisfies Watch);
    ledgers.push(opened);
    return opened;
  };
  const machine = open("this machine");
  const ofInstances = instances.map((each) => ({ each, book: open(`instance ${each.name}`) }));
  const ofRepositories = repositories.map((each) => ({ each, book: open(`repository ${each.url}`) }));
  await checkMachine(machine, request);
  const [servers, stores] = await Promise.all([
    Promise.all(ofInstances.map(({ each, book }) => told(request, book, () => checkInstance(book, each)))),
    Promise.all(
      ofRepositories.map(({ each, book }) => told(request, book, () => checkRepository(book, each, request))),
    ),
  ]);
  const readable = stores.filter((store) => store !== undefined);
  for (const [index, instance] of instances.entries()) {
    await checkSchedule(open, instance, servers[index], readable, request);
    await checkArchiving(open, instance, servers[index], readable);
  }
  return {
    findings: ledgers.flatMap((each) => each.findings()),
    bugs: ledgers.flatMap((each) => each.bugs),
  };
}

/** A server or a store that does not answer takes its time: progress shows which. */
async function told<T>({ report, clock }: CheckRequest, { subject }: Ledger, work: () => Promise<T>): Promise<T> {
  const task = `check ${subject}`;
  const startedMs = clock.monotonicMs();
  report({ type: "start", task });
  const result = await work();
  report({ type: "done", task, seconds: (clock.monotonicMs() - startedMs) / 1000 });
  return result;
}
