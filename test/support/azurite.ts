import { randomBytes } from "node:crypto";
import { BlobServiceClient } from "@azure/storage-blob";
import { serverOfThisRun } from "./servers.ts";

export interface AzureServer {
  /** With the account in its path, as Azurite wants it. */
  endpoint: string;
  account: string;
  key: string;
  connectionString: string;
  /** A client of the account's owner, for what a test does behind pgkit's back. */
  client: BlobServiceClient;
  /** Makes an empty container with a name of its own. */
  newContainer(): Promise<string>;
}

/** The Azurite of this test run, started when the first test asks for it and ended with the run. */
export async function startAzurite(): Promise<AzureServer> {
  const facts = await serverOfThisRun<Omit<AzureServer, "client" | "newContainer">>("/azurite");
  const client = BlobServiceClient.fromConnectionString(facts.connectionString);
  const newContainer = async () => {
    const name = `test-${randomBytes(6).toString("hex")}`;
    await client.createContainer(name);
    return name;
  };
  return { ...facts, client, newContainer };
}
