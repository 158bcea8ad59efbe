import type { ServerResponse } from "node:http";

/** What goes wrong with the next calls that it is for. */
export interface Fault {
  /** `get`, `patch`, ...; all where left out. */
  verb?: string;
  /** `secrets`, `pods/log`; all where left out. */
  resource?: string;
  /** How often; once where left out. */
  times?: number;
  does:
    | { answer: number; retryAfter?: number }
    /** The connection ends without an answer; `after the work` was done, or before. */
    | { hangUp: "before" | "after the work" };
}

export interface Faults {
  add(fault: Fault): void;
  /** The fault for this call, counted down. */
  take(verb: string, resource: string): Fault["does"] | undefined;
}

export function createFaults(): Faults {
  const faults: { fault: Fault; left: number }[] = [];
  return {
    add: (fault) => void faults.push({ fault, left: fault.times ?? 1 }),
    take(verb, resource) {
      const found = faults.find(
        ({ fault, left }) => left > 0 && (fault.verb ?? verb) === verb && (fault.resource ?? resource) === resource,
      );
      if (found === undefined) return undefined;
      found.left -= 1;
      return found.fault.does;
    },
  };
}

export function answerFault(
  response: ServerResponse,
  { answer, retryAfter }: { answer: number; retryAfter?: number },
): void {
  const headers = retryAfter === undefined ? {} : { "retry-after": String(retryAfter) };
  response.writeHead(answer, { "content-type": "application/json", ...headers });
  const reason = answer === 429 ? "TooManyRequests" : answer === 410 ? "Expired" : "InternalError";
  const message = `made to answer ${answer}`;
  response.end(JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", reason, message, code: answer }));
}
