import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { run } from "../cli/run.ts";
import { bash, contentOf, scriptOf } from "../stories/by-hand.ts";
import { startAzurite } from "../support/azurite.ts";
import { startCluster } from "../support/cluster.ts";

it.each(["deep/prefix", ""])(
  "by RESTORE.md alone, from Azure with the az command, under the prefix '%s'",
  async (prefix) => {
    const folder = await mkdtemp(join(tmpdir(), "pgkit-by-hand-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    await using target = await startCluster();
    await target.psql("CREATE DATABASE litellm");
    await target.psql("CREATE TABLE keys AS SELECT i, md5(i::text) FROM generate_series(1, 5000) i", "litellm");
    const identity = join(folder, "identity.txt");
    await promisify(execFile)("age-keygen", ["-o", identity]);
    const recipient = (await promisify(execFile)("age-keygen", ["-y", identity])).stdout.trim();
    const server = await startAzurite();
    const container = await server.newContainer();
    const url = `azure://${[server.account, container, ...(prefix === "" ? [] : [prefix])].join("/")}`;
    const yaml = `
repository: ${url}
storage: { endpoint: "${server.endpoint}", accountKey: "${server.key}", volumeSize: 16KiB }
encryption: { recipients: [${recipient}] }
instances: { shared: { url: "${target.url()}" } }
`;
    const made = await run(["backup", "logical", "litellm", "--quiet"], { files: { "pgkit.yaml": yaml } });
    expect(made, made.stderr).toMatchObject({ status: 0 });

    const blob = server.client
      .getContainerClient(container)
      .getBlobClient([prefix, "RESTORE.md"].filter(Boolean).join("/"));
    const edits = { REPO: url, NEW_NAME: "by_hand", WORK: join(folder, "work"), IDENTITY: identity };
    const restore = await scriptOf((await blob.downloadToBuffer()).toString(), edits, { folder, target });
    const env = { AZURE_STORAGE_CONNECTION_STRING: server.connectionString };
    await bash([restore], { folder, target }, { env });
    expect(await contentOf(target, "by_hand")).toBe(await contentOf(target, "litellm"));
  },
);
