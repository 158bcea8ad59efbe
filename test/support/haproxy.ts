import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type Daemon, freePort, startDaemon } from "./daemon.ts";

export interface HaProxy extends Daemon {
  /** Where clients connect. */
  readonly port: number;
  readonly configFile: string;
  readonly socket: string;
  /** The admin socket by TCP. */
  readonly socketPort: number;
  /** One command of the runtime API. */
  command(command: string): Promise<string>;
}

export interface HaProxyOptions {
  /** Lines of `backend postgres`, its servers among them. */
  readonly backend: string;
  readonly defaults?: string;
}

/** Starts a real HAProxy in TCP mode: frontend `pg` on 127.0.0.1 in front of the backend `postgres`. */
export async function startHaProxy({ backend, defaults = "" }: HaProxyOptions): Promise<HaProxy> {
  const [port, socketPort] = [await freePort(), await freePort()];
  const config = (folder: string) => `global
  stats socket ${folder}/admin.sock mode 600 level admin
  stats socket ${folder}/user.sock mode 600 level user
  stats socket ipv4@127.0.0.1:${socketPort} level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 10m
  timeout server 10m
  ${defaults}
frontend pg
  bind 127.0.0.1:${port}
  default_backend postgres
backend postgres
${backend}
`;
  const command = async (folder: string, line: string) => {
    const socket = connect(join(folder, "admin.sock"));
    socket.end(`${line}\n`);
    return await text(socket);
  };
  const daemon = await startDaemon({
    program: "haproxy",
    files: (folder) => ({ "haproxy.cfg": config(folder) }),
    args: (folder) => ["-db", "-f", join(folder, "haproxy.cfg")],
    ready: (folder) => command(folder, "show info"),
  });
  const { folder, runAs, log, stop, start } = daemon;
  return {
    ...{ folder, runAs, log, stop, start, port, socketPort },
    socket: join(folder, "admin.sock"),
    configFile: join(folder, "haproxy.cfg"),
    command: (line) => command(folder, line),
    get pid() {
      return daemon.pid;
    },
    [Symbol.asyncDispose]: daemon[Symbol.asyncDispose],
  };
}
