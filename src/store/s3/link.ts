import { createHash } from "node:crypto";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { S3Client } from "@aws-sdk/client-s3";
import { type Clock, systemClock } from "../../lib/time.ts";
import { cancelled, orCancelled, throwIfCancelled } from "../cancel.ts";
import { authorities } from "../tls.ts";
import { backoff } from "./backoff.ts";
import type { S3StoreConfig } from "./config.ts";
import { s3Error } from "./errors.ts";

/** A bucket and the way to it: what every operation needs. */
export interface S3Link {
  client: S3Client;
  config: S3StoreConfig;
  clock: Clock;
  bucket: string;
  /** Empty, or ends in `/`. */
  prefix: string;
  where: string;
  /** Sends one request, repeated by the client where it fails for reasons that pass; errors are ours. */
  request<T>(what: string, signal: AbortSignal | undefined, send: (options: SendOptions) => Promise<T>): Promise<T>;
  /** The server's clock minus ours in ms, by its last answer; 0 before the first. */
  skewMs(): number;
  /** Learned on the way: that the bucket exists, and whether it keeps versions. */
  known: { bucket?: true; versioned?: boolean };
}

export interface SendOptions {
  abortSignal?: AbortSignal;
}

/** Opens no connection; fails with `config` when the CA file cannot be read. */
export function s3Link(config: S3StoreConfig): S3Link {
  const clock = config.clock ?? systemClock;
  const client = new S3Client(clientConfig(config, clock));
  const seen = { skewMs: 0 };
  watch(client, config, clock, seen);
  useContentMd5(client);
  signLess(client);
  const at = config.endpoint ?? `Amazon S3 (region ${config.region ?? "of the environment"})`;
  const prefix = config.prefix === undefined || config.prefix === "" ? "" : `${config.prefix}/`;
  return {
    client,
    config,
    clock,
    bucket: config.bucket,
    prefix,
    where: `s3://${config.bucket}/${prefix}`.replace(/\/$/, ""),
    async request(what, signal, send) {
      throwIfCancelled(signal);
      try {
        return await orCancelled(send(signal === undefined ? {} : { abortSignal: signal }), signal);
      } catch (error) {
        if (signal?.aborted === true) throw cancelled(signal);
        throw s3Error(error, { what, bucket: config.bucket, at });
      }
    },
    skewMs: () => seen.skewMs,
    known: {},
  };
}

function clientConfig(config: S3StoreConfig, clock: Clock): ConstructorParameters<typeof S3Client>[0] & object {
  const sockets = { keepAlive: true, maxSockets: 64 };
  const { accessKeyId, secretAccessKey, sessionToken } = config.credentials ?? {};
  const keys =
    accessKeyId === undefined || secretAccessKey === undefined ? undefined : { accessKeyId, secretAccessKey };
  return {
    ...(config.region === undefined ? {} : { region: config.region }),
    ...(config.endpoint === undefined ? {} : { endpoint: config.endpoint }),
    forcePathStyle: config.pathStyle === true,
    ...(keys === undefined ? {} : { credentials: { ...keys, ...(sessionToken ? { sessionToken } : {}) } }),
    retryStrategy: backoff(config.attempts ?? 6, clock),
    requestHandler: {
      connectionTimeout: config.connectTimeoutMs ?? 10_000,
      socketTimeout: config.idleTimeoutMs ?? 60_000,
      httpAgent: new HttpAgent(sockets),
      httpsAgent: new HttpsAgent({ ...sockets, ...authorities(config.caFile) }),
    },
    // Checksums are given where the server is known to understand them; the SDK's own trailers are refused by many.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    expectContinueHeader: false,
    followRegionRedirects: true,
  };
}

function watch(client: S3Client, config: S3StoreConfig, clock: Clock, seen: { skewMs: number }): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      config.onRequest?.((context.commandName ?? "unknown").replace(/Command$/, ""));
      const sentAt = clock.now().getTime();
      const result = await next(args);
      const date = dateOf(result.response);
      // The header counts whole seconds; its middle is the best guess, as is the middle of the exchange.
      if (date !== undefined) seen.skewMs = date + 500 - (sentAt + clock.now().getTime()) / 2;
      return result;
    },
    { step: "deserialize", priority: "low", name: "pgkitWatch" },
  );
}

function dateOf(response: unknown): number | undefined {
  const headers = (response as { headers?: Record<string, string> } | undefined)?.headers;
  const time = Date.parse(headers?.["date"] ?? "");
  return Number.isNaN(time) ? undefined : time;
}

/** DeleteObjects demands a checksum, and older servers know none but Content-MD5; Amazon takes it too. */
function useContentMd5(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const request = args.request as { headers: Record<string, string>; body?: unknown };
      if (context.commandName === "DeleteObjectsCommand" && typeof request.body === "string") {
        for (const name of Object.keys(request.headers)) {
          if (/^x-amz-(checksum-|sdk-checksum-)/i.test(name)) delete request.headers[name];
        }
        request.headers["content-md5"] = createHash("md5").update(request.body).digest("base64");
      }
      return await next(args);
    },
    { step: "build", priority: "low", name: "pgkitContentMd5" },
  );
}

/**
 * Within TLS nobody changes a body, and its MD5 or CRC32 goes along; a SHA-256 over all of it as well would cost as much
 * time as the rest of an upload.
 */
function signLess(client: S3Client): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const request = args.request as { protocol: string; headers: Record<string, string> };
      const summed = request.headers["content-md5"] ?? request.headers["x-amz-checksum-crc32"];
      if (request.protocol === "https:" && summed !== undefined) {
        request.headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD";
      }
      return await next(args);
    },
    { step: "build", priority: "low", name: "pgkitSignLess" },
  );
}
