import { formatBytes } from "../../lib/parse.ts";
import type { Side } from "../step.ts";
import { type Found, type Known, onlineRefusal, refusal, warning } from "./known.ts";
import { left, type PreflightServer } from "./server.ts";

/** Whether the two servers can do their part at all. */
export function serverRisks({ context, source, target }: Known): Found[] {
  const { move } = context;
  const name = (side: Side) => context[side].instance;
  const risks: Found[] = [];
  for (const side of ["source", "target"] as const) {
    const server = side === "source" ? source : target;
    if (server.inRecovery) {
      risks.push(
        refusal(
          `${name(side)} is a standby: nothing can be changed there`,
          `set instances.${name(side)}.url to its primary`,
        ),
      );
    }
    if (side === "source" && !server.superuser) risks.push(needsSuperuser(name(side), server));
    if (server.systemId !== move[side].systemId) {
      risks.push(
        refusal(
          `${name(side)} has system id ${server.systemId}, and had ${move[side].systemId} when the move began`,
          "does its URL lead to several servers?",
        ),
      );
    }
  }
  if (source.systemId === target.systemId) {
    const hint = "name another instance by --to; a copy beside it on the same server is pgkit restore --as";
    risks.push(
      refusal(`${name("source")} and ${name("target")} are the same server (system id ${source.systemId})`, hint),
    );
  }
  if (target.major < source.major) {
    const message = `${name("target")} has PostgreSQL ${target.major}, older than the ${source.major} of ${name("source")}`;
    risks.push(refusal(message, `upgrade it, or move to an instance of PostgreSQL ${source.major} or newer`));
  }
  if (source.major < 15) {
    const message = `${name("source")} has PostgreSQL ${source.major}: pgkit moves from 15 on`;
    risks.push(refusal(message, "take a pgkit backup logical of it, and restore that on the new instance"));
  }
  return risks;
}

function needsSuperuser(instance: string, { user }: PreflightServer): Found {
  return refusal(
    `${user} is no superuser on ${instance}: a move closes the database to all others, and would shut itself out`,
    `ALTER ROLE "${user}" SUPERUSER, or let instances.${instance}.url name a superuser`,
  );
}

/** Whether logical replication has room, there and, for the way back, here. */
export function replicationRisks({ context, source, target }: Known): Found[] {
  const { options, mode } = context.move;
  const [from, to] = [context.source.instance, context.target.instance];
  const risks: Found[] = [];
  if (mode === "online") {
    risks.push(...sendingRisks(from, source, 2, onlineRefusal), ...receivingRisks(to, target, 2, onlineRefusal));
    risks.push(...keepRisks(from, source));
  }
  if (options.reverseFeed) {
    const giveUp = (message: string, hint: string) =>
      refusal(`${message} (for the way back)`, `${hint}; or give the way back up with --without-reverse-feed`);
    risks.push(...sendingRisks(to, target, 1, giveUp), ...receivingRisks(from, source, 1, giveUp));
  } else {
    risks.push(
      warning(
        "there is no way back after the switch: what is written on the target would be lost",
        "leave out --without-reverse-feed",
      ),
    );
  }
  return risks;
}

type Refuse = (message: string, hint: string) => Found;

function sendingRisks(instance: string, server: PreflightServer, needed: number, refuse: Refuse): Found[] {
  const { settings } = server;
  const risks: Found[] = [];
  if (settings["wal_level"] !== "logical") {
    risks.push(
      refuse(
        `wal_level is ${settings["wal_level"]} on ${instance}, and logical replication needs logical`,
        "ALTER SYSTEM SET wal_level = 'logical', then restart the server",
      ),
    );
  }
  if (left(server, "slots") < needed)
    risks.push(noRoom(instance, server, "slots", "max_replication_slots", needed, refuse));
  if (left(server, "senders") < needed)
    risks.push(noRoom(instance, server, "senders", "max_wal_senders", needed, refuse));
  return risks;
}

function receivingRisks(instance: string, server: PreflightServer, needed: number, refuse: Refuse): Found[] {
  const setting = "max_logical_replication_workers";
  return left(server, "workers") < needed ? [noRoom(instance, server, "workers", setting, needed, refuse)] : [];
}

function noRoom(
  instance: string,
  { settings, used }: PreflightServer,
  what: keyof PreflightServer["used"],
  setting: string,
  needed: number,
  refuse: Refuse,
): Found {
  const message = `${setting} is ${settings[setting]} on ${instance} with ${used[what]} in use, and ${needed} are needed`;
  return refuse(message, `ALTER SYSTEM SET ${setting} = ${used[what] + needed + 2}, then restart the server`);
}

function keepRisks(instance: string, { settings }: PreflightServer): Found[] {
  const megabytes = Number(settings["max_slot_wal_keep_size"] ?? -1);
  if (megabytes < 0) return [];
  const limit = formatBytes(megabytes * 1024 * 1024);
  return [
    warning(
      `max_slot_wal_keep_size on ${instance} is ${limit}: where the copy takes longer than that much WAL, it is lost`,
      "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf() for the time of the move",
    ),
  ];
}

/** What a move itself opens at most, on either server. */
const ownConnections = 6;

/** Whether there is room for the application on the target, and for pgkit on both. */
export function connectionRisks({ context, source, target, database }: Known): Found[] {
  const needed = ownConnections + 2 * context.move.options.jobs;
  const applications = database.sessions.reduce((sum, { count }) => sum + count, 0);
  const risks: Found[] = [];
  for (const [side, server] of [["source", source] as const, ["target", target] as const]) {
    const free = left(server, "connections");
    if (free >= needed) continue;
    const message = `${context[side].instance} has ${free} of its ${server.settings["max_connections"]} connections free, and a move opens up to ${needed}`;
    const raise = `ALTER SYSTEM SET max_connections = ${server.used.connections + needed + 10}, then restart the server; or use --jobs 1`;
    risks.push(free < ownConnections ? refusal(message, raise) : warning(message, raise));
  }
  const room = left(target, "connections");
  if (room < applications) {
    risks.push(
      warning(
        `the application holds ${applications} connections now, and ${context.target.instance} has ${room} free`,
        `raise max_connections on ${context.target.instance}, or lower the size of the application's pool`,
      ),
    );
  }
  return risks;
}
