import { homedir } from "node:os";
import { join } from "node:path";
import type { InstanceConfig } from "./config.ts";

/** Where `pgkit wal stream` of an instance keeps what is not stored yet, and its status. */
export function streamFolderOf(
  { name, archive }: InstanceConfig,
  env: Readonly<Record<string, string | undefined>>,
): string {
  if (archive.streamFolder !== undefined) return archive.streamFolder;
  const data = env["XDG_DATA_HOME"] || join(env["HOME"] || homedir(), ".local", "share");
  return join(data, "pgkit", "stream", name);
}
