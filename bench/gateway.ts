import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import type { Place } from "./places.ts";

const bucket = "bench";

interface Gateway {
  endpoint: string;
  tlsEndpoint: string;
  caFile: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
}

/** Runs a Ceph gateway over TLS, with all it stores in a folder of its own, while `use` needs it. */
export async function withGateway<T>(use: (place: Place) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-bench-s3-"));
  // The server's user reads the certificate there.
  await chmod(folder, 0o755);
  const script = join(import.meta.dirname, "../test/support/rgw.sh");
  const child = spawn("bash", [script, "run", folder], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const [line] = await once(createInterface(child.stdout), "line");
    const gateway: Gateway = JSON.parse(line);
    await makeBucket(gateway);
    return await use(placeIn(gateway));
  } finally {
    child.stdin.end();
    await once(child, "close");
  }
}

async function makeBucket({ endpoint, region, accessKeyId, secretAccessKey }: Gateway): Promise<void> {
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
}

function placeIn({ tlsEndpoint, caFile, region, accessKeyId, secretAccessKey }: Gateway): Place {
  const { hostname, port } = new URL(tlsEndpoint);
  const storage = { endpoint: tlsEndpoint, region, pathStyle: true, caFile, accessKeyId, secretAccessKey };
  return {
    where: "S3 over TLS",
    ours: (name) => [`repository: s3://${bucket}/${name}`, `storage: ${JSON.stringify(storage)}`],
    theirs: (name) => [
      ...[`repo1-path=/${name}`, "repo1-type=s3", `repo1-s3-bucket=${bucket}`, `repo1-s3-endpoint=${hostname}`],
      ...[`repo1-storage-port=${port}`, `repo1-storage-ca-file=${caFile}`, `repo1-s3-region=${region}`],
      ...["repo1-s3-uri-style=path", `repo1-s3-key=${accessKeyId}`, `repo1-s3-key-secret=${secretAccessKey}`],
    ],
  };
}
