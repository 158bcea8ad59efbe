import { errorCodes } from "../../lib/errors.ts";
import { formatBytes, formatDuration } from "../../lib/parse.ts";
import type { HealthFinding } from "../../wal/health.ts";
import type { Command } from "../command.ts";
import { table } from "../text.ts";

export const pitrStatusCommand: Command = {
  name: "pitr status",
  summary: "Say how the continuous archiving of an instance goes: archiver, slot, lag, pg_wal, disk, gaps",
  arguments: [{ name: "INSTANCE", doc: "the instance; may be left out when there is one" }],
  options: [],
  examples: [
    { line: "pgkit pitr status", does: "one line a finding, and the verdict; exit status 40 when it is an alert" },
    { line: "pgkit pitr status shared --json", does: "all figures, for a script or a monitor" },
  ],
  run: async (context, args) => {
    const { archivingStatus } = await import("../archiving-status.ts");
    const { statusDocument } = await import("../archiving-document.ts");
    const status = await archivingStatus(context, context.instance(args.one("INSTANCE")));
    const document = statusDocument(status);
    context.out.result({ json: document, text: () => textOf(document, status.findings) });
    return document.verdict === "alert" ? errorCodes["check-failed"].exit : 0;
  },
};

interface Shown {
  readonly instance: string;
  readonly verdict: string;
  readonly lag?: { readonly bytes: number; readonly seconds: number | undefined };
}

const words = { ok: "ok", warn: "WARN", alert: "ALERT" } as const;

function textOf({ instance, verdict, lag }: Shown, findings: readonly HealthFinding[]): string {
  const rows = findings.map(({ level, name, message, remedy }) => [
    words[level],
    name,
    remedy === undefined ? message : `${message}; fix: ${remedy}`,
  ]);
  const columns = ["LEVEL", "ABOUT", "FINDING"].map((title) => ({ title }));
  return [table(columns, rows), "", `${instance}: ${verdict}${lag === undefined ? "" : `, ${lagText(lag)}`}`].join(
    "\n",
  );
}

export function lagText({ bytes, seconds }: NonNullable<Shown["lag"]>): string {
  if (bytes === 0) return "everything is stored";
  const since = seconds === undefined ? "" : `, the oldest for up to ${formatDuration(seconds * 1000)}`;
  return `${formatBytes(bytes)} are not stored${since}`;
}
