import type { ServerResponse } from "node:http";

/** What containers have said, and who listens. */
export interface Logs {
  /** The container has begun. */
  open(pod: string): void;
  write(pod: string, text: string): void;
  /** The container has ended: whoever follows is told so. */
  end(pod: string): void;
  has(pod: string): boolean;
  /** Sends what is there and, with `follow`, what comes. */
  serve(pod: string, query: URLSearchParams, response: ServerResponse): void;
  /** Ends every followed stream in the middle, as a restarted kubelet does: `cleanly` ends it as if it were whole. */
  cut(how?: "cleanly" | "in the middle"): number;
  remove(pod: string): void;
}

interface Log {
  lines: { time: string; text: string }[];
  hasEnded: boolean;
  followers: Set<{ send: (line: { time: string; text: string }) => void; response: ServerResponse }>;
}

export function createLogs(): Logs {
  const logs = new Map<string, Log>();
  let count = 0;
  const of = (pod: string) => {
    const log = logs.get(pod) ?? { lines: [], hasEnded: false, followers: new Set() };
    logs.set(pod, log);
    return log;
  };
  return {
    open: (pod) => void of(pod),
    write(pod, text) {
      count += 1;
      const now = new Date().toISOString();
      // Nanoseconds that never repeat, without trailing zeros: as the node writes them.
      const time = `${now.slice(0, -1)}${String(count % 1_000_000).padStart(6, "0")}`.replace(/0+$/, "");
      const line = { time: `${time}Z`, text };
      const log = of(pod);
      log.lines.push(line);
      for (const { send } of log.followers) send(line);
    },
    end(pod) {
      const log = of(pod);
      log.hasEnded = true;
      for (const { response } of log.followers) response.end();
      log.followers.clear();
    },
    has: (pod) => logs.has(pod),
    serve(pod, query, response) {
      const log = of(pod);
      const since = query.get("sinceTime");
      const send = ({ time, text }: { time: string; text: string }) =>
        response.writableEnded ||
        response.write(query.get("timestamps") === "true" ? `${time} ${text}\n` : `${text}\n`);
      response.writeHead(200, { "content-type": "text/plain" });
      response.flushHeaders();
      for (const line of log.lines) {
        if (since === null || `${line.time.slice(0, 19)}Z` >= since) send(line);
      }
      if (log.hasEnded || query.get("follow") !== "true") return void response.end();
      const follower = { send, response };
      log.followers.add(follower);
      response.on("close", () => log.followers.delete(follower));
    },
    cut(how = "in the middle") {
      const followers = [...logs.values()].flatMap((log) => [...log.followers]);
      for (const { response } of followers) how === "cleanly" ? response.end() : response.destroy();
      return followers.length;
    },
    remove: (pod) => void logs.delete(pod),
  };
}
