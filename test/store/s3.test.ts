import { s3Store } from "../../src/store/s3.ts";
import { startS3 } from "../support/s3.ts";
import { conformance } from "./conformance.ts";

const old = { createIfAbsent: true, compareAndSet: false, checksum: "md5" } as const;

for (const objectLock of [false, true]) {
  conformance(`S3, Ceph 16.2${objectLock ? ", with object lock" : ""}`, () => open("old", objectLock), {
    capabilities: { ...old, objectLock },
    partBytes: 5 * 1024 * 1024,
    retainMs: 6_000,
  });
}

async function open(which: "old" | "new", objectLock: boolean) {
  const server = await startS3(which);
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const bucket = await server.newBucket({ objectLock });
  const credentials = { accessKeyId, secretAccessKey };
  return { store: s3Store({ bucket, prefix: "some/where", region, endpoint, pathStyle: true, credentials }) };
}
