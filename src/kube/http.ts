import type { IncomingMessage } from "node:http";
import { request as plainRequest } from "node:http";
import { type RequestOptions, request } from "node:https";
import { text } from "node:stream/consumers";
import { PgkitError } from "../lib/errors.ts";
import type { Access } from "./access.ts";
import { type Ask, what } from "./errors.ts";

export interface Answer {
  readonly code: number;
  /** Of Retry-After. */
  readonly retryAfterMs: number | undefined;
  readonly body: IncomingMessage;
}

const methods = { get: "GET", list: "GET", watch: "GET", create: "POST", patch: "PATCH", delete: "DELETE" } as const;

/** Sends one request. Fails with `kube-unreachable` when there is no answer, or silence for `silentMs`. */
export async function send(access: Access, ask: Ask, silentMs: number, signal: AbortSignal): Promise<Answer> {
  signal.throwIfAborted();
  const credentials = await access.credentials();
  const url = new URL(access.server.href.replace(/\/+$/, "") + ask.path);
  for (const [name, value] of Object.entries(ask.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, value);
  }
  const sent = ask.body === undefined ? undefined : Buffer.from(JSON.stringify(ask.body));
  const options: RequestOptions = { ...credentials, method: methods[ask.verb], signal };
  options.headers = {
    ...credentials.headers,
    accept: "application/json",
    "user-agent": "pgkit",
    ...(sent === undefined
      ? {}
      : { "content-type": ask.contentType ?? "application/json", "content-length": sent.length }),
  };
  return await new Promise<Answer>((resolve, reject) => {
    const fail = (error: unknown) => reject(signal.aborted ? signal.reason : networkError(access, ask, error));
    const start = url.protocol === "https:" ? request : plainRequest;
    const outgoing = start(url, options, (body) => {
      const seconds = Number(body.headers["retry-after"]);
      const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : undefined;
      resolve({ code: body.statusCode ?? 0, retryAfterMs, body });
    });
    outgoing.setTimeout(silentMs, () => outgoing.destroy(Object.assign(new Error("silence"), { code: "ETIMEDOUT" })));
    outgoing.on("error", fail);
    outgoing.end(sent);
  });
}

/** The whole body. Fails with `kube-unreachable` where it was cut. */
export async function textOf(access: Access, ask: Ask, { body }: Answer, signal: AbortSignal): Promise<string> {
  try {
    return await text(body);
  } catch (error) {
    signal.throwIfAborted();
    throw networkError(access, ask, error);
  }
}

/** Lines as they come. Fails with `kube-unreachable` where the stream was cut; ends where the API ended it. */
export async function* linesOf(
  access: Access,
  ask: Ask,
  { body }: Answer,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let rest = "";
  try {
    for await (const chunk of body.setEncoding("utf8")) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      yield* lines;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw networkError(access, ask, error);
  }
  if (rest !== "") yield rest;
}

/** True where waiting may help; a wrong name or certificate stays wrong. */
export function mayPass(error: PgkitError): boolean {
  return !lasting.test(codeOf(error.cause));
}

const lasting = /^(ENOTFOUND|CERT_|ERR_TLS_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_)/;

export function networkError(access: Access, ask: Ask, error: unknown): PgkitError {
  if (error instanceof PgkitError) return error;
  const code = codeOf(error);
  const said = error instanceof Error && error.message !== "" ? error.message : code;
  return new PgkitError("kube-unreachable", `cannot ${what(ask)}: ${access.where} does not answer: ${said}`, {
    hint: hintOf(code),
    cause: error,
  });
}

function hintOf(code: string): string {
  if (code === "ENOTFOUND") return "the name is not known here: is the kubeconfig's server right?";
  if (/^CERT_HAS|NOT_YET_VALID/.test(code)) return "a certificate has expired, or this machine's clock is wrong";
  if (lasting.test(code)) return "is certificate-authority-data of the kubeconfig that of this cluster?";
  if (code === "ECONNREFUSED") return "does the API server run there, and is the port right?";
  return "is the API server up, and does the network let pgkit through?";
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  return "code" in error ? String(error.code) : codeOf(error.cause);
}
