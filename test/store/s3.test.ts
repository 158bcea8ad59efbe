import { s3Store } from "../../src/store/s3.ts";
import { startS3 } from "../support/s3.ts";
import { conformance } from "./conformance.ts";

// Neither knows If-Match, and in a bucket with versions, as object lock needs, both ignore If-None-Match.
for (const [which, version] of [
  ["old", "16.2"],
  ["new", "18.2"],
] as const) {
  for (const objectLock of [false, true]) {
    conformance(`S3, Ceph ${version}${objectLock ? ", with object lock" : ""}`, () => open(which, objectLock), {
      capabilities: { createIfAbsent: !objectLock, compareAndSet: false, checksum: "md5", objectLock },
      partBytes: 5 * 1024 * 1024,
      retainMs: 6_000,
    });
  }
}

async function open(which: "old" | "new", objectLock: boolean) {
  const server = await startS3(which);
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const bucket = await server.newBucket({ objectLock });
  const credentials = { accessKeyId, secretAccessKey };
  return { store: s3Store({ bucket, prefix: "some/where", region, endpoint, pathStyle: true, credentials }) };
}
