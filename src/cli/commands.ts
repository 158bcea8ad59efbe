import type { Command } from "./command.ts";
import { completionCommand } from "./commands/completion.ts";
import { scheduleCommand } from "./commands/schedule.ts";

/** Every command, in the order of the help. A command that is not here does not exist. */
export const commands: readonly Command[] = [scheduleCommand, completionCommand];
