import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { PgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";
import { type HaproxyServer, haproxyServer, haproxyServers } from "./haproxy-server.ts";
import { haproxyCommand } from "./haproxy-socket.ts";
import { spellAddress, switchConflict } from "./switch-errors.ts";
import type { Endpoint, EndpointAddress, Switcher, SwitchPlan } from "./switcher.ts";

export interface HaproxySwitch {
  /** The path of the admin socket, or `host:port`. */
  readonly socket: string;
  readonly backend: string;
  readonly server: string;
}

export interface HaproxyDeps {
  readonly clock: Clock;
  /** HAProxy passes bytes on and names no database: whoever connects through it asks for this one. */
  readonly database: string;
  /** What the endpoints of the move are called. HAProxy knows addresses only: `current` gives the name that leads to one. */
  readonly known: readonly { readonly host: string; readonly port: number }[];
}

const upTimeoutMs = 10_000;

/** A server of an HAProxy's backend: its address is changed in the running program, and sessions to the old one are ended. */
export function haproxySwitcher(config: HaproxySwitch, deps: HaproxyDeps): Switcher {
  const { socket, backend, server } = config;
  const where = `HAProxy at ${socket}, server ${backend}/${server}`;
  const ask: Ask = (command, signal) => haproxyCommand(socket, command, signal);
  const state = async (signal: AbortSignal) =>
    haproxyServer(await ask(`show servers state ${backend}`, signal), backend, server);
  return {
    where,
    kind: "haproxy",
    current: async (signal) => currentOf(await state(signal), deps),
    point: async (from, to, signal) => {
      const now = await state(signal);
      const target = await targetOf(now, to, deps, where);
      if (await leadsTo(now, to)) return await untilUp(state, deps.clock, where, signal);
      if (!(await leadsTo(now, from))) throw switchConflict(where, await currentOf(now, deps), from, to);
      const place = `${backend}/${server}`;
      await followName(ask, place, now, to, signal);
      const answer = await ask(`set server ${place} addr ${target} port ${to.port}`, signal);
      const after = await state(signal);
      if (after.address !== target || after.port !== to.port) throw notChanged(where, answer, to);
      // What was open leads to the old server; whoever comes back is led to the new one.
      await ask(`shutdown sessions server ${place}`, signal);
      await untilUp(state, deps.clock, where, signal);
    },
    plan: async (to, signal) => {
      const answer = await ask(`show servers state ${backend}`, signal);
      return await planOf(config, answer, to, deps, where);
    },
  };
}

type Ask = (command: string, signal: AbortSignal) => Promise<string>;

async function planOf(
  { backend, server }: HaproxySwitch,
  answer: string,
  to: EndpointAddress,
  deps: HaproxyDeps,
  where: string,
): Promise<SwitchPlan> {
  const now = haproxyServer(answer, backend, server);
  await targetOf(now, to, deps, where);
  const others = haproxyServers(answer, backend).filter((name) => name !== server);
  return {
    does: [
      `sets the address of ${where} to ${to.host}:${to.port}, and ends the sessions to ${now.address}:${now.port}`,
    ],
    refusals: [],
    warnings: [
      {
        message: `${where} is changed in the running HAProxy only: a reload or restart leads it back to the old server`,
        hint: `commit to its configuration, backend ${backend}: server ${server} ${to.host}:${to.port}, with the rest of that line as it is`,
      },
      ...others.map((other) => ({
        message: `the backend ${backend} of HAProxy has the server ${other} too, which is not switched`,
        hint: `remove it, or make sure that no session of ${to.database} goes there`,
      })),
    ],
  };
}

/** The address to set, and the refusals that need no look at where it leads now. */
async function targetOf(now: HaproxyServer, to: EndpointAddress, deps: HaproxyDeps, where: string): Promise<string> {
  if (now.closed !== undefined) {
    throw new PgkitError("config", `${where} is in the state ${now.closed}: nobody gets through it`, {
      hint: "set it to ready, on HAProxy's socket: set server BACKEND/SERVER state ready",
    });
  }
  if (to.database !== deps.database) {
    throw new PgkitError(
      "config",
      `${where} cannot lead to the database ${to.database}: clients ask it for ${deps.database}`,
      {
        hint: "HAProxy passes on what the client asks for: the database must have the same name on both servers",
      },
    );
  }
  const [address] = await addressesOf(to.host);
  if (address !== undefined) return address;
  throw new PgkitError("switch-failed", `${where} cannot lead to ${to.host}: the name does not resolve from here`, {
    hint: "HAProxy is given addresses: set instances.NAME.endpoint to a name that resolves here, or to an address",
  });
}

/** As the user spells it, where one of the endpoints that are known leads there; else by its address. */
async function currentOf(now: HaproxyServer, { known, database }: HaproxyDeps): Promise<Endpoint> {
  for (const { host, port } of known) {
    if (await leadsTo(now, { host, port, database })) return { host, port, database };
  }
  return { host: now.address, port: now.port, database };
}

async function leadsTo(now: HaproxyServer, { host, port }: EndpointAddress): Promise<boolean> {
  return now.port === port && (now.address === host || (await addressesOf(host)).includes(now.address));
}

/** IPv4 first. Empty where the name server says that there is none. */
async function addressesOf(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    const found = await lookup(host, { all: true, order: "ipv4first" });
    return found.map(({ address }) => address);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOTFOUND") return [];
    throw new PgkitError("switch-failed", `the name ${host} could not be resolved`, {
      hint: "does the name server answer from here?",
      cause,
    });
  }
}

/** A server with a resolver asks for its name again and again, and would lead back: it is given the new name. */
async function followName(
  ask: Ask,
  place: string,
  { name }: HaproxyServer,
  { host }: EndpointAddress,
  signal: AbortSignal,
): Promise<void> {
  if (name === undefined) return;
  // An address is no name to ask for: to be told its own name changes nothing, and shows whether there is a resolver.
  const answer = await ask(`set server ${place} fqdn ${isIP(host) === 0 ? host : name}`, signal);
  if (/no resolution is configured/.test(answer)) return;
  if (isIP(host) === 0 && /FQDN|FDQN/.test(answer)) return;
  throw new PgkitError(
    "switch-failed",
    `HAProxy resolves the name ${name} of ${place} by itself and would lead back from ${host}`,
    {
      hint: "set instances.NAME.endpoint of the target to a name that HAProxy's resolvers know",
    },
  );
}

/** Its health check, where it has one, may have had the old server down. */
async function untilUp(
  state: (signal: AbortSignal) => Promise<HaproxyServer>,
  clock: Clock,
  where: string,
  signal: AbortSignal,
): Promise<void> {
  const deadlineMs = clock.monotonicMs() + upTimeoutMs;
  for (;;) {
    const now = await state(signal);
    if (!now.isChecked || !now.isDown) return;
    if (clock.monotonicMs() > deadlineMs) {
      throw new PgkitError(
        "switch-failed",
        `${where} points at ${now.address}:${now.port}, and its health check says that it is down`,
        {
          hint: "does HAProxy reach that server? show servers state on its socket, and its log, say why not",
        },
      );
    }
    await clock.delay(50, signal);
  }
}

function notChanged(where: string, answer: string, to: EndpointAddress): PgkitError {
  return new PgkitError("switch-failed", `${where} was not led to ${spellAddress(to)}: ${answer.split("\n")[0]}`, {
    hint: "see HAProxy's log",
  });
}
