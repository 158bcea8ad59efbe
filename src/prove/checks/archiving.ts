import {
  type ArchivingExpectation,
  archivingFindings,
  type HealthFinding,
  type HealthInput,
} from "../../wal/health.ts";
import { archivingServer } from "../../wal/status.ts";
import { readStoredWal, type StoredWal } from "../../wal/stored-wal.ts";
import type { Found, Ledger } from "../ledger.ts";
import type { InstanceFacts, InstanceUnderCheck, Interview } from "./instance.ts";
import type { RepositoryFacts } from "./repository.ts";

/** What the configuration asks of the archiving of an instance, and where its streamer would say how it goes. */
export interface ArchivingUnderCheck extends ArchivingExpectation {
  streamer(): Promise<HealthInput["streamer"]>;
}

/** Asks the server; what came of it is judged once the repositories have been read. */
export async function askArchiving(interview: Interview): Promise<InstanceFacts["archiving"]> {
  return await interview.ask("archiving", (session) => archivingServer(session), { failsAs: "warning" });
}

const slow = { late: "store-unreachable" } as const;

/** How continuous archiving is set up and goes, and whether what is stored can be restored. */
export async function checkArchiving(
  open: (subject: string) => Ledger,
  { name, archiving }: InstanceUnderCheck,
  facts: InstanceFacts | undefined,
  repositories: readonly RepositoryFacts[],
): Promise<void> {
  if (archiving === undefined) return;
  const ledger = open(`archiving of ${name}`);
  const stored: StoredWal[] = [];
  for (const { url, reader, backups } of repositories) {
    if (reader === undefined) {
      stored.push({ repository: url, lineages: [] });
      continue;
    }
    const found = await ledger.run(
      "stored wal",
      ({ signal }) => readStoredWal(reader, name, { backups, signal }),
      slow,
    );
    if (found !== undefined) stored.push(found);
  }
  const streamer = await ledger.run("streamer", () => archiving.streamer(), { failsAs: "warning" });
  const server = facts?.archiving;
  const findings = await ledger.run("archiving", async (found) =>
    archivingFindings({ expected: archiving, server, stored, streamer, now: found.now() }),
  );
  for (const finding of findings ?? []) await ledger.run(finding.name, async (found) => tell(found, finding));
}

function tell(found: Found, { level, message, remedy = "pgkit pitr status tells more", code }: HealthFinding) {
  if (level === "ok") return found.ok(message);
  if (level === "warn") return found.warning(message, remedy);
  found.error(message, remedy, code);
}
