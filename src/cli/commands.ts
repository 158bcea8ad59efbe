import type { Command } from "./command.ts";
import { backupBaseCommand } from "./commands/backup-base.ts";
import { backupLogicalCommand } from "./commands/backup-logical.ts";
import { checkCommand } from "./commands/check.ts";
import { completionCommand } from "./commands/completion.ts";
import { demoCommand } from "./commands/demo.ts";
import { healthzCommand } from "./commands/healthz.ts";
import { keepCommand } from "./commands/keep.ts";
import { listCommand } from "./commands/list.ts";
import { manifestsCommand } from "./commands/manifests.ts";
import { moveCommand } from "./commands/move.ts";
import {
  moveFinishCommand,
  moveResumeCommand,
  moveRollbackCommand,
  moveStatusCommand,
  moveUnblockCommand,
} from "./commands/move-go-on.ts";
import { pitrDisableCommand } from "./commands/pitr-disable.ts";
import { pitrEnableCommand } from "./commands/pitr-enable.ts";
import { pitrStatusCommand } from "./commands/pitr-status.ts";
import { pruneCommand } from "./commands/prune.ts";
import { restoreCommand } from "./commands/restore.ts";
import { scheduleCommand } from "./commands/schedule.ts";
import { showCommand } from "./commands/show.ts";
import { verifyCommand } from "./commands/verify.ts";
import { walFetchCommand } from "./commands/wal-fetch.ts";
import { walPushCommand } from "./commands/wal-push.ts";
import { walStatusCommand } from "./commands/wal-status.ts";
import { walStreamCommand } from "./commands/wal-stream.ts";

/** Every command, in the order of the help. A command that is not here does not exist. */
export const commands: readonly Command[] = [
  checkCommand,
  backupLogicalCommand,
  backupBaseCommand,
  listCommand,
  showCommand,
  verifyCommand,
  restoreCommand,
  pruneCommand,
  keepCommand,
  pitrEnableCommand,
  pitrDisableCommand,
  pitrStatusCommand,
  moveCommand,
  moveStatusCommand,
  moveResumeCommand,
  moveRollbackCommand,
  moveFinishCommand,
  moveUnblockCommand,
  scheduleCommand,
  manifestsCommand,
  walPushCommand,
  walFetchCommand,
  walStreamCommand,
  walStatusCommand,
  healthzCommand,
  demoCommand,
  completionCommand,
];
