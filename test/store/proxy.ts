import {
  createServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  request,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

/** One request on its way to a real server. */
export interface Passing {
  method: string;
  /** Path and query. */
  url: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface Answer {
  status: number;
  headers: OutgoingHttpHeaders;
  body: Buffer;
}

/**
 * What becomes of a request: it goes on (undefined); its answer is lost after the server has done the work; nobody
 * answers; the answer's body breaks, or just stops coming, after so many bytes; another answer is given in its place; or its answer is changed.
 */
export type Fate =
  | undefined
  | "lose-reply"
  | "hang"
  | { cutAfter: number }
  | { stallAfter: number }
  | { answer: { status: number; body?: string; headers?: OutgoingHttpHeaders } }
  | { change: (answer: Answer) => Answer };

export interface StoreProxy {
  endpoint: string;
  /** Every request that came, such as `PUT /bucket/key`. */
  seen: Passing[];
  close: () => Promise<void>;
}

/** Stands between a store and a real server, which sees the requests as they were signed. */
export async function startProxy(target: string, fate: (passing: Passing) => Fate): Promise<StoreProxy> {
  const seen: Passing[] = [];
  const server = createServer(async (from, to) => {
    const { method = "", url = "", headers } = from;
    const passing = { method, url, headers, body: await buffer(from) };
    seen.push(passing);
    const decided = fate(passing);
    if (decided === "hang") return;
    if (typeof decided === "object" && "answer" in decided) {
      to.writeHead(decided.answer.status, decided.answer.headers).end(decided.answer.body ?? "");
      return;
    }
    const answer = await forward(target, passing);
    if (decided === "lose-reply") to.destroy();
    else give(to, answer, decided);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.closeAllConnections();
    return new Promise<void>((closed) => server.close(() => closed()));
  };
  return { endpoint: `http://127.0.0.1:${port}`, seen, close };
}

function forward(target: string, { method, url, headers, body }: Passing): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(target, { method, path: url, headers: { ...headers, connection: "close" } }, async (from) => {
      resolve({ status: from.statusCode ?? 0, headers: from.headers, body: await buffer(from) });
    });
    sent.on("error", reject).end(body);
  });
}

function give(to: ServerResponse, plain: Answer, fate: Fate): void {
  const answer = typeof fate === "object" && "change" in fate ? fate.change(plain) : plain;
  to.writeHead(answer.status, answer.headers);
  if (typeof fate === "object" && "cutAfter" in fate && fate.cutAfter < answer.body.length) {
    to.write(answer.body.subarray(0, fate.cutAfter), () => to.destroy());
  } else if (typeof fate === "object" && "stallAfter" in fate) {
    to.write(answer.body.subarray(0, fate.stallAfter));
  } else {
    to.end(answer.body);
  }
}
