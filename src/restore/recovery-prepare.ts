import { chmod, chown, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type RunAs, writePrivateFile } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import {
  type RecoverySettingsInput,
  recoverySettings,
  withoutArchiving,
  withoutRecoveryBlock,
  withRecoveryBlock,
} from "./recovery-settings.ts";

const autoConf = "postgresql.auto.conf";

/**
 * Makes the data directory one that recovers to the plan's target as soon as a server starts on it. To be called before
 * its pg_control is in place. Can be repeated.
 */
export async function prepareRecovery(
  dataDir: string,
  input: RecoverySettingsInput,
  runAs: RunAs | undefined,
): Promise<void> {
  await rewrite(
    join(dataDir, autoConf),
    (text) => {
      const kept = withoutRecoveryBlock(text);
      return withRecoveryBlock(input.noArchive ? withoutArchiving(kept) : kept, recoverySettings(input));
    },
    runAs,
  );
  // In the backup of a standby; it would make the server follow a primary, over recovery.signal.
  await rm(join(dataDir, "standby.signal"), { force: true });
  await rm(join(dataDir, "recovery.signal"), { force: true });
  await writePrivateFile(join(dataDir, "recovery.signal"), "", runAs);
}

/** Takes the settings of a recovery that is done away, so that the directory is one like any other. */
export async function endRecovery(dataDir: string, runAs: RunAs | undefined): Promise<void> {
  await rewrite(join(dataDir, autoConf), withoutRecoveryBlock, runAs);
}

/** Whole or not at all, with the mode and the owner of the file that was there. */
async function rewrite(path: string, change: (text: string) => string, runAs: RunAs | undefined): Promise<void> {
  const [text = "", former] = await Promise.all([unlessAbsent(readFile(path, "utf8")), unlessAbsent(stat(path))]);
  const draft = `${path}.pgkit`;
  await rm(draft, { force: true });
  await writePrivateFile(draft, change(text), runAs);
  if (former !== undefined) {
    await chmod(draft, former.mode & 0o7777);
    if (runAs === undefined && process.getuid?.() === 0) await chown(draft, former.uid, former.gid);
  }
  await rename(draft, path);
}
