import { tmpdir } from "node:os";
import type { CheckRequest } from "../../prove/check.ts";
import type { Finding } from "../../prove/finding.ts";
import { expectationOf } from "../archiving-status.ts";
import type { Command, CommandArguments, CommandContext } from "../command.ts";
import type { InstanceConfig } from "../config.ts";
import { streamFolderOf } from "../stream-folder.ts";
import { table } from "../text.ts";

/** Long enough for a store that probes its object lock, short enough to wait for. */
const deadlineMs = 30_000;

export const checkCommand: Command = {
  name: "check",
  summary: "Prove that everything needed for backups and restores works; each finding has its remedy",
  arguments: [{ name: "INSTANCE", doc: "the instance; all of them when none is named" }],
  options: ["dryRun"],
  examples: [
    { line: "pgkit check", does: "every instance and repository, and which backups are overdue" },
    { line: "pgkit check shared --json", does: "one instance, for a script or a monitor" },
    { line: "pgkit check --dry-run", does: "writes nothing to the repository, and says what that leaves out" },
  ],
  run: async (context, args) => {
    const { check } = await import("../../prove/check.ts");
    const { exitStatusOf } = await import("../../prove/finding.ts");
    const { findings, bugs } = await check(requestOf(context, args));
    context.out.result({ json: { findings }, text: () => textOf(findings) });
    if (bugs.length > 0) throw bugs[0];
    return exitStatusOf(findings);
  },
};

function requestOf(context: CommandContext, args: CommandArguments): CheckRequest {
  const { config, clock, signal, report } = context;
  return {
    instances: context.instances(args.one("INSTANCE")).map((instance) => ({
      ...instance,
      connection: () => context.connection(instance),
      archiving: archivingOf(context, instance),
      programsFor: async (major, options) => {
        const { programsFor } = await import("../../postgres/programs.ts");
        return programsFor(major, config.postgresBin, options);
      },
    })),
    repositories: config.repositories.map((repository) => ({
      ...repository,
      openStore: () => context.openStore(repository),
      identities: () => context.identities(repository),
    })),
    scratchFolder: tmpdir(),
    timeZone: config.timeZone,
    dryRun: args.flags.dryRun,
    deadlineMs,
    clock,
    signal,
    report,
  };
}

function archivingOf(context: CommandContext, instance: InstanceConfig) {
  const streamer = async () => {
    const { readStreamStatus } = await import("../../wal/stream-status.ts");
    return await readStreamStatus(streamFolderOf(instance, context.env));
  };
  return { ...expectationOf(context, instance), streamer };
}

const words = { ok: "ok", warning: "WARNING", error: "ERROR" } as const;

/** One line a finding, what to do at its end, and the sum last, where the eye is. */
function textOf(findings: readonly Finding[]): string {
  const rows = findings.map(({ level, subject, check, message, remedy }) => [
    words[level],
    subject,
    check,
    remedy === undefined ? message : `${message}; fix: ${remedy}`,
  ]);
  const columns = ["LEVEL", "SUBJECT", "CHECK", "FINDING"].map((title) => ({ title }));
  return `${table(columns, rows)}\n\n${sumOf(findings)}`;
}

function sumOf(findings: readonly Finding[]): string {
  const count = (level: Finding["level"]) => findings.filter((each) => each.level === level).length;
  const [errors, warnings] = [count("error"), count("warning")];
  const counted = (number: number, name: string) => `${number} ${name}${number === 1 ? "" : "s"}`;
  return `${count("ok")} ok, ${counted(warnings, "warning")}, ${counted(errors, "error")}`;
}
