import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { Socket } from "node:net";
import { authorities } from "../tls.ts";
import type { AzureStoreConfig } from "./config.ts";

/** Keeps connections, and breaks those that do not come about or say nothing: the SDK has no such timeout itself. */
export function agentFor(endpoint: string, config: AzureStoreConfig): HttpAgent {
  const sockets = { keepAlive: true, maxSockets: 64 };
  const agent = endpoint.startsWith("https:")
    ? new HttpsAgent({ ...sockets, ...authorities(config.caFile) })
    : new HttpAgent(sockets);
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (...args: Parameters<typeof connect>) => {
    const socket = connect(...args);
    if (socket !== undefined && socket !== null) watch(socket as Socket, config);
    return socket;
  };
  return agent;
}

function watch(socket: Socket, { connectTimeoutMs = 10_000, idleTimeoutMs = 60_000 }: AzureStoreConfig): void {
  let limitMs = connectTimeoutMs;
  socket.setTimeout(limitMs);
  socket.once("connect", () => {
    limitMs = idleTimeoutMs;
    socket.setTimeout(limitMs);
  });
  socket.on("timeout", () => {
    const error = new Error(`nothing came for ${limitMs} ms`);
    socket.destroy(Object.assign(error, { code: "ETIMEDOUT" }));
  });
}
