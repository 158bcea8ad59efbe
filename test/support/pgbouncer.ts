import { join } from "node:path";
import pg from "pg";
import { type Daemon, freePort, startDaemon } from "./daemon.ts";

export interface PgBouncer extends Daemon {
  readonly port: number;
  readonly configFile: string;
  /** Of its admin console, without the password. */
  readonly admin: string;
  readonly adminPassword: string;
  /** Runs one command on the console. */
  console(command: string): Promise<Record<string, unknown>[]>;
}

export interface PgBouncerOptions {
  /** Lines of `[databases]`. */
  readonly databases: string;
  /** Who may log in to it, and with what it logs in to servers. */
  readonly users: Readonly<Record<string, string>>;
  readonly settings?: Readonly<Record<string, string>>;
  /** More files in its folder, such as one to include. */
  readonly files?: Readonly<Record<string, string>>;
}

/** Starts a real PgBouncer on 127.0.0.1; its console's user is `pgbouncer_admin`, `pgbouncer_stats` may only look. */
export async function startPgBouncer(options: PgBouncerOptions): Promise<PgBouncer> {
  const port = await freePort();
  const adminPassword = "console:secret '1";
  const users = { pgbouncer_admin: adminPassword, pgbouncer_stats: adminPassword, ...options.users };
  const settings = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    auth_type: "scram-sha-256",
    auth_file: "users.txt",
    admin_users: "pgbouncer_admin",
    stats_users: "pgbouncer_stats",
    pool_mode: "transaction",
    server_tls_sslmode: "disable",
    ...options.settings,
  };
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  const console = async (command: string) => {
    const client = new pg.Client({
      host: "127.0.0.1",
      port,
      user: "pgbouncer_admin",
      password: adminPassword,
      database: "pgbouncer",
    });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return (await client.query(command)).rows;
    } finally {
      await client.end();
    }
  };
  const daemon = await startDaemon({
    program: "pgbouncer",
    files: (folder) => ({
      "pgbouncer.ini": `; made for a test\n[databases]\n${options.databases}\n\n[pgbouncer]\nunix_socket_dir = ${folder}\n${lines.join("\n")}\n`,
      "users.txt": Object.entries(users)
        .map(([user, password]) => `${quoted(user)} ${quoted(password)}\n`)
        .join(""),
      ...options.files,
    }),
    args: () => ["pgbouncer.ini"],
    ready: () => console("SHOW VERSION"),
  });
  const { folder, runAs, log, stop, start } = daemon;
  return {
    ...{ folder, runAs, log, stop, start, port, adminPassword, console },
    configFile: join(folder, "pgbouncer.ini"),
    admin: `postgresql://pgbouncer_admin@127.0.0.1:${port}/pgbouncer`,
    get pid() {
      return daemon.pid;
    },
    [Symbol.asyncDispose]: daemon[Symbol.asyncDispose],
  };
}
