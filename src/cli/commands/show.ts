import { formatBytes } from "../../lib/parse.ts";
import type { Manifest } from "../../repo/manifest.ts";
import type { Command } from "../command.ts";
import { findInRepositories } from "../read-repositories.ts";
import { harmless, table } from "../text.ts";

export const showCommand: Command = {
  name: "show",
  summary: "Show all that is known of one backup",
  arguments: [{ name: "BACKUP", required: true, doc: "the backup's id, as pgkit list shows it" }],
  options: [],
  examples: [
    { line: "pgkit show litellm-20261121T020000Z-3f9a", does: "its tables, files and roles" },
    { line: "pgkit show litellm-20261121T020000Z-3f9a --json", does: "the manifest as it is stored" },
  ],
  run: async (context, args) => {
    const { manifest, repository } = await findInRepositories(context, args.one("BACKUP") ?? "");
    context.out.result({ json: manifest, text: () => textOf(manifest, repository.where) });
    return 0;
  },
};

function textOf(manifest: Manifest, where: string): string {
  const { logical, base, server, recipients } = manifest;
  const facts: [string, string][] = [
    ["backup", manifest.id],
    ["repository", where],
    ["kind", manifest.kind],
    ["instance", manifest.instance],
    ["database", manifest.database ?? ""],
    ["started", manifest.startedAt],
    ["finished", manifest.finishedAt],
    ["server", `PostgreSQL ${server.version}, system id ${server.systemId}`],
    ["stored", `${formatBytes(manifest.storedBytes)}, proven by ${manifest.proof}`],
    ["encrypted to", recipients?.join(", ") ?? "nobody: it is not encrypted"],
    ...(logical === undefined ? [] : logicalFacts(logical)),
    ...(base === undefined ? [] : baseFacts(base, manifest.parent)),
  ];
  const lines = facts.map(([name, value]) => `${`${name}:`.padEnd(14)}${value}`);
  return harmless(
    [
      ...[...lines, "", filesOf(manifest)],
      ...(logical === undefined ? [] : ["", tablesOf(logical)]),
      ...(base === undefined ? [] : ["", databasesOf(base)]),
    ].join("\n"),
  );
}

function logicalFacts(logical: NonNullable<Manifest["logical"]>): [string, string][] {
  const { provider, collate, locale } = logical.locale;
  return [
    ["owner", logical.owner],
    ["locale", `${logical.encoding}, ${provider} ${locale ?? collate}`],
    ["extensions", logical.extensions.map(({ name, version }) => `${name} ${version}`).join(", ")],
    ["roles", `${logical.roles.join(", ")}${logical.passwordsIncluded ? "" : " (without passwords)"}`],
    ["on disk", formatBytes(logical.sizeBytes)],
  ];
}

function baseFacts(base: NonNullable<Manifest["base"]>, parent: string | undefined): [string, string][] {
  const { timeline, startLsn, stopLsn, stoppedAt, tablespaces } = base;
  return [
    ["builds on", parent ?? "nothing: it is a full backup"],
    ["WAL", `${startLsn} to ${stopLsn} of timeline ${timeline}${base.walIncluded ? ", in the backup" : ", archived"}`],
    ["earliest", stoppedAt],
    ["taken by", `${base.engine}${base.fromStandby ? " from a standby" : ""}, ${base.checkpoint} checkpoint`],
    ["label", base.label],
    ["checksums", base.dataChecksums ? "on" : "off: damaged pages are not noticed"],
    ["tablespaces", tablespaces.map(({ name, location }) => `${name} (${location})`).join(", ") || "none"],
    ["on disk", formatBytes(base.sizeBytes)],
  ];
}

function databasesOf({ databases }: NonNullable<Manifest["base"]>): string {
  return table(
    [{ title: "DATABASE" }, { title: "ON DISK", align: "right" as const }],
    databases.map(({ name, sizeBytes }) => [name, formatBytes(sizeBytes)]),
  );
}

function filesOf({ files }: Manifest): string {
  const columns = [
    { title: "FILE" },
    { title: "ENCODED BY" },
    { title: "STORED", align: "right" as const },
    { title: "KEYS" },
  ];
  return table(
    columns,
    files.map(({ name, encoding, volumes }) => [
      name,
      encoding.join(", ") || "nothing",
      formatBytes(volumes.reduce((sum, volume) => sum + volume.storedBytes, 0)),
      volumes.map((volume) => volume.key).join(" "),
    ]),
  );
}

function tablesOf({ tables }: NonNullable<Manifest["logical"]>): string {
  const columns = [
    { title: "TABLE" },
    { title: "ROWS", align: "right" as const },
    { title: "ON DISK", align: "right" as const },
  ];
  return table(
    columns,
    tables.map(({ schema, name, rows, bytes }) => [
      `${schema}.${name}`,
      rows === undefined ? "not counted" : String(rows),
      formatBytes(bytes),
    ]),
  );
}
