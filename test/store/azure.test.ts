import { azureStore } from "../../src/store/azure.ts";
import { startAzurite } from "../support/azurite.ts";
import { conformance } from "./conformance.ts";

conformance("Azure, Azurite", open, {
  capabilities: { createIfAbsent: true, compareAndSet: true, checksum: "md5", objectLock: false },
  partBytes: 5 * 1024 * 1024,
  // It checks the MD5 of a block but does not give it back.
  provesParts: false,
});

async function open() {
  const { endpoint, account, key, newContainer } = await startAzurite();
  const container = await newContainer();
  return {
    store: await azureStore({ account, container, prefix: "some/where", endpoint, credential: { accountKey: key } }),
  };
}
