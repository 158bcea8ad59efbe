import { formatBytes } from "../../lib/parse.ts";
import { rfc3339 } from "../../lib/time.ts";
import type { StoredWal } from "../../wal/stored-wal.ts";
import type { Command } from "../command.ts";
import { table } from "../text.ts";
import { lagText } from "./pitr-status.ts";

export const walStatusCommand: Command = {
  name: "wal status",
  summary:
    "Show what WAL of an instance is stored: of each server and timeline the last file, the lag, and what is missing",
  arguments: [],
  options: [],
  examples: [
    { line: "pgkit wal status", does: "of the only instance" },
    { line: "pgkit wal status --instance shared --json", does: "the same document as pgkit pitr status --json" },
  ],
  run: async (context) => {
    const { archivingStatus } = await import("../archiving-status.ts");
    const { statusDocument } = await import("../archiving-document.ts");
    const status = await archivingStatus(context, context.instance());
    const document = statusDocument(status);
    const { lag, findings } = document;
    const silent = findings.filter(({ name }) => name === "server" || name === "repository");
    context.out.result({
      json: document,
      text: () =>
        [
          storedText(status.stored),
          ...silent.map(({ message }) => message),
          ...(lag === undefined ? [] : [lagText(lag)]),
        ].join("\n\n"),
    });
    return 0;
  },
};

const columns = [
  ...[{ title: "SYSTEM" }, { title: "TIMELINE", align: "right" }, { title: "FROM" }, { title: "TO" }],
  ...[{ title: "LAST FILE" }, { title: "STORED AT" }, { title: "FILES", align: "right" }],
  ...[{ title: "SIZE", align: "right" }, { title: "MISSING" }],
] as const;

function storedText(stored: readonly StoredWal[]): string {
  return stored
    .map((each) => {
      const rows = rowsOf(each);
      return rows.length === 0 ? `no WAL of it in ${each.repository}` : `${each.repository}\n${table(columns, rows)}`;
    })
    .join("\n\n");
}

function rowsOf({ lineages }: StoredWal): string[][] {
  return lineages.flatMap(({ systemId, timelines, recordedGaps }) =>
    timelines.map((each) => {
      const { timeline, fromLsn, toLsn, lastFile, lastStoredAt, segments, storedBytes, missing } = each;
      const given = recordedGaps.filter((gap) => gap.timeline === timeline);
      const gaps = [...missing, ...given].map((gap) => `${gap.fromLsn} to ${gap.toLsn}`);
      return [
        ...[systemId, String(timeline), fromLsn, toLsn, lastFile, rfc3339(lastStoredAt)],
        ...[String(segments), formatBytes(storedBytes), [...new Set(gaps)].join(", ") || "nothing"],
      ];
    }),
  );
}
