import {
  AnonymousCredential,
  BlobServiceClient,
  type ContainerClient,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import { PgkitError } from "../../lib/errors.ts";
import { type Clock, systemClock } from "../../lib/time.ts";
import { cancelled, orCancelled, throwIfCancelled } from "../cancel.ts";
import { agentFor } from "./agent.ts";
import type { AzureStoreConfig } from "./config.ts";
import { azureError } from "./errors.ts";

/** A container and the way to it: what every operation needs. */
export interface AzureLink {
  container: ContainerClient;
  config: AzureStoreConfig;
  clock: Clock;
  /** Empty, or ends in `/`. */
  prefix: string;
  where: string;
  /** Sends one request, repeated by the client where it fails for reasons that pass; errors are ours. */
  request<T>(what: string, signal: AbortSignal | undefined, send: (options: SendOptions) => Promise<T>): Promise<T>;
  /** The service's clock minus ours in ms, by its last answer; 0 before the first. */
  skewMs(): number;
}

export interface SendOptions {
  abortSignal?: AbortSignal;
}

/** Opens no connection. Loads the identity library only when the default chain is asked for. */
export async function azureLink(config: AzureStoreConfig): Promise<AzureLink> {
  const clock = config.clock ?? systemClock;
  let skewMs = 0;
  const service = await openService(config);
  const at = service.url.replace(/\?.*$/, "").replace(/\/$/, "");
  const prefix = config.prefix === undefined || config.prefix === "" ? "" : `${config.prefix}/`;
  return {
    container: service.getContainerClient(config.container),
    config,
    clock,
    prefix,
    where: `azure://${config.account}/${config.container}/${prefix}`.replace(/\/$/, ""),
    async request(what, signal, send) {
      throwIfCancelled(signal);
      try {
        const sentAt = clock.now().getTime();
        const answer = await orCancelled(send(signal === undefined ? {} : { abortSignal: signal }), signal);
        skewMs = skewOf(answer, sentAt, clock.now().getTime()) ?? skewMs;
        return answer;
      } catch (error) {
        if (signal?.aborted === true) throw cancelled(signal);
        throw azureError(error, { what, container: config.container, at });
      }
    },
    skewMs: () => skewMs,
  };
}

async function openService(config: AzureStoreConfig): Promise<BlobServiceClient> {
  const { credential, account } = config;
  const url = config.endpoint ?? `https://${account}.blob.core.windows.net`;
  const options = optionsFor(url, config);
  if (credential === undefined) {
    const { DefaultAzureCredential } = await import("@azure/identity");
    return new BlobServiceClient(url, new DefaultAzureCredential(), options);
  }
  if ("sas" in credential) {
    return new BlobServiceClient(`${url}?${credential.sas.replace(/^\?/, "")}`, new AnonymousCredential(), options);
  }
  if ("accountKey" in credential) {
    return new BlobServiceClient(url, new StorageSharedKeyCredential(account, credential.accountKey), options);
  }
  return fromConnectionString(credential.connectionString, config);
}

/** The agent has to fit the address, which only the client that is made of the string knows. */
function fromConnectionString(text: string, config: AzureStoreConfig): BlobServiceClient {
  try {
    const { url } = BlobServiceClient.fromConnectionString(text);
    return BlobServiceClient.fromConnectionString(text, optionsFor(url, config));
  } catch {
    // The library's own message repeats parts of the string, which is a secret; so it is not kept.
    throw new PgkitError("config", "the Azure connection string cannot be read", {
      hint: "copy it anew from the storage account's access keys",
    });
  }
}

function optionsFor(url: string, config: AzureStoreConfig): StoragePipelineOptions {
  const retryOptions = { maxTries: config.attempts ?? 6, retryDelayInMs: 200, maxRetryDelayInMs: 20_000 };
  // A setting of the pipeline below, which the type of the storage library does not name but hands on.
  const more = { agent: agentFor(url, config) };
  return { retryOptions, ...more };
}

/** The header counts whole seconds; its middle is the best guess, as is the middle of the exchange. */
function skewOf(answer: unknown, sentAt: number, receivedAt: number): number | undefined {
  const date = (answer as { date?: unknown } | undefined)?.date;
  // A long exchange was repeated, or carried much, and its middle says little.
  if (!(date instanceof Date) || receivedAt - sentAt > 2_000) return undefined;
  return date.getTime() + 500 - (sentAt + receivedAt) / 2;
}
