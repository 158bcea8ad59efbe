import { errorCodes } from "../../lib/errors.ts";
import type { Command } from "../command.ts";
import { streamFolderOf } from "../stream-folder.ts";

export const healthzCommand: Command = {
  name: "healthz",
  summary: "Say whether the pgkit wal stream of this machine works, for the probes of its container",
  arguments: [],
  options: ["live"],
  examples: [
    { line: "pgkit healthz --instance shared", does: "exit status 0 while WAL is stored, below the alert thresholds" },
    { line: "pgkit healthz --live", does: "0 while the streamer itself works, also where server or store are down" },
  ],
  run: async (context, { flags }) => {
    const { readStreamStatus } = await import("../../wal/stream-status.ts");
    const { streamHealth } = await import("../../wal/stream-health.ts");
    const instance = context.instance();
    const status = await readStreamStatus(streamFolderOf(instance, context.env));
    const question = flags.live ? "live" : "ready";
    const health = streamHealth(question, status, instance.archive, context.clock.now());
    const { healthy, message } = health;
    context.out.result({ json: { instance: instance.name, question, healthy, message, status }, text: message });
    return healthy ? 0 : errorCodes["check-failed"].exit;
  },
};
