import type { ServerResponse } from "node:http";
import type { Request } from "./accounts.ts";
import { fitsLabels, type Machinery } from "./handler.ts";
import { Refusal } from "./objects.ts";
import type { StoredEvent } from "./store.ts";

/** The watches that are open. */
export interface Watches {
  readonly open: Set<ServerResponse>;
  /** Ends them all: `cleanly` as after timeoutSeconds, or in the middle of a line. */
  cut(how: "cleanly" | "in the middle"): number;
  /** Tells them all the newest version. */
  bookmark(version: number): void;
}

export function createWatches(): Watches {
  const open = new Set<ServerResponse>();
  return {
    open,
    cut(how) {
      const cut = [...open];
      for (const response of cut) {
        if (how === "cleanly") response.end();
        else response.write('{"type":"MODIFIED","object":{"metad', () => response.destroy());
      }
      open.clear();
      return cut.length;
    },
    bookmark(version) {
      const object = { metadata: { resourceVersion: String(version) } };
      for (const response of open) response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
    },
  };
}

export function serveWatch(
  { store, watches }: Machinery,
  { kind, namespace, name }: Request,
  query: URLSearchParams,
  response: ServerResponse,
): void {
  const labels = query.get("labelSelector");
  const write = (event: object) => response.writableEnded || response.write(`${JSON.stringify(event)}\n`);
  const tell = ({ type, kind: of, object }: StoredEvent) => {
    if (of.plural !== kind.plural || of.group !== kind.group) return;
    if (namespace !== "" && object.metadata.namespace !== namespace) return;
    if (name !== undefined && object.metadata.name !== name) return;
    if (fitsLabels(object, labels)) write({ type, object });
  };
  response.writeHead(200, { "content-type": "application/json" });
  response.flushHeaders();
  try {
    for (const event of store.since(Number(query.get("resourceVersion") ?? 0))) tell(event);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    write({ type: "ERROR", object: error.status() });
    response.end();
    return;
  }
  const stop = store.onEvent(tell);
  watches.open.add(response);
  response.on("close", () => {
    stop();
    watches.open.delete(response);
  });
}
