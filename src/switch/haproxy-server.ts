import { PgkitError } from "../lib/errors.ts";

/** One server of a backend, as `show servers state` has it. */
export interface HaproxyServer {
  readonly address: string;
  readonly port: number;
  /** Its health check, where it has one, has it down. */
  readonly isDown: boolean;
  readonly isChecked: boolean;
  /** Why no new session goes there: `maint` or `drain`, by hand or by its configuration. */
  readonly closed: "maint" | "drain" | undefined;
  /** The name that its configuration has, where it has one. */
  readonly name: string | undefined;
}

/** The server's line of the answer to `show servers state BACKEND`. Fails with `config` where it is not there. */
export function haproxyServer(answer: string, backend: string, server: string): HaproxyServer {
  const rows = rowsOf(answer, backend);
  const row = rows.find((one) => one.get("srv_name") === server);
  if (row === undefined) {
    throw new PgkitError("config", `HAProxy's backend ${backend} has no server ${server}`, {
      hint: `it has: ${rows.map((one) => one.get("srv_name")).join(", ")}`,
    });
  }
  const number = (column: string) => Number(row.get(column));
  const admin = number("srv_admin_state");
  const name = row.get("srv_fqdn");
  return {
    address: row.get("srv_addr") ?? "",
    port: number("srv_port"),
    isDown: number("srv_op_state") === 0,
    // Of the check's state: it is configured, and enabled.
    isChecked: (number("srv_check_state") & 0x06) === 0x06,
    // Not 0x20 and 0x40: a name that was not resolved, or was set by the socket.
    closed: (admin & 0x07) !== 0 ? "maint" : (admin & 0x18) !== 0 ? "drain" : undefined,
    name: name === undefined || name === "-" ? undefined : name,
  };
}

/** The names of the backend's servers. */
export function haproxyServers(answer: string, backend: string): string[] {
  return rowsOf(answer, backend).flatMap((row) => row.get("srv_name") ?? []);
}

function rowsOf(answer: string, backend: string): Map<string, string>[] {
  const lines = answer.split("\n").map((line) => line.trim().split(" "));
  const columns = lines.find(([first]) => first === "#")?.slice(1);
  const rows = lines.filter((line) => line.length > 2 && line[0] !== "#");
  if (columns === undefined || rows.length === 0) {
    throw new PgkitError("config", `HAProxy has no backend ${backend} with servers: ${answer.split("\n")[0]}`, {
      hint: "show servers state on its socket lists them; name one in switch.haproxy.backend",
    });
  }
  return rows.map((row) => new Map(columns.map((column, index) => [column, row[index] ?? ""])));
}
