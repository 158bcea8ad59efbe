import { type ChildProcess, execFile, type SpawnOptions, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/**
 * A process that keeps the S3 and Azure servers of a test run. It says where it listens (one line on stdout), starts
 * each server when it is first asked for (`/s3/old`, `/s3/new`, `/s3/newest`, `/azurite`), and stops them and itself when its
 * standard input ends: however the test run ends, nothing is left.
 */
const folder = await mkdtemp(join(tmpdir(), "pgkit-servers-"));
const started = new Map<string, Promise<string>>();
const children: ChildProcess[] = [];
const project = fileURLToPath(new URL("../..", import.meta.url));

const starters: Record<string, () => Promise<string>> = {
  "/s3/old": () => startRgw("old", "s3"),
  "/s3/new": () => startRgw("new", "root", "trixie"),
  "/s3/newest": () => startRgw("newest", "newest", "forky"),
  "/azurite": startAzurite,
};

const server = createServer((request, response) => {
  answer(request.url ?? "").then(
    (json) => response.end(json),
    (error) => response.writeHead(500).end(String(error)),
  );
});
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  process.stdout.write(`http://127.0.0.1:${port}\n`);
});
process.on("SIGINT", () => undefined);
process.stdin.resume().on("end", () => stop());

async function answer(path: string): Promise<string> {
  const start = starters[path];
  if (start === undefined) throw new Error(`there is no server ${path}`);
  const running = started.get(path) ?? start();
  started.set(path, running);
  return await running;
}

async function startRgw(name: string, part: string, root?: string): Promise<string> {
  await promisify(execFile)("bash", [join(project, "scripts/setup.sh"), part]);
  const args = [join(project, "test/support/rgw.sh"), "run", join(folder, name), ...(root ? ["--root", root] : [])];
  const child = keep("bash", args, { stdio: ["pipe", "pipe", "pipe"] });
  return await firstLine(child, (line) => line.startsWith("{"));
}

/** Its own account with a key of this run, and no telemetry. */
async function startAzurite(): Promise<string> {
  const [account, key] = ["pgkittest", randomBytes(64).toString("base64")];
  const args = [join(project, "node_modules/azurite/dist/src/blob/main.js"), "--location", join(folder, "azurite")];
  args.push("--blobPort", "0", "--silent", "--disableTelemetry", "--skipApiVersionCheck");
  const env = { ...process.env, AZURITE_ACCOUNTS: `${account}:${key}` };
  const child = keep("setpriv", ["--pdeathsig", "KILL", process.execPath, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const line = await firstLine(child, (text) => text.includes("successfully listens on"));
  const endpoint = `${/http:\S+/.exec(line)?.[0]}/${account}`;
  const connectionString = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${key};BlobEndpoint=${endpoint};`;
  return JSON.stringify({ endpoint, account, key, connectionString });
}

function keep(program: string, args: string[], options: SpawnOptions): ChildProcess {
  const child = spawn(program, args, options);
  children.push(child);
  return child;
}

/** The first line that is wanted; what the program said until then when it ends without it. */
async function firstLine(child: ChildProcess, wanted: (line: string) => boolean): Promise<string> {
  let said = "";
  return await new Promise((resolve, reject) => {
    const look = (chunk: Buffer) => {
      said += chunk;
      const line = said.split("\n").slice(0, -1).find(wanted);
      if (line !== undefined) resolve(line);
    };
    child.stdout?.on("data", look);
    child.stderr?.on("data", look);
    child.once("error", reject);
    child.once("close", (code) => reject(new Error(`${child.spawnargs.join(" ")} ended with ${code}: ${said}`)));
  });
}

async function stop(): Promise<void> {
  server.close();
  await Promise.all(children.map((child) => ended(child)));
  await rm(folder, { recursive: true, force: true });
  process.exit(0);
}

/** A gateway ends when its standard input does; Azurite has none, and nothing to save. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  if (child.stdin) child.stdin.end();
  else child.kill("SIGKILL");
  await gone;
}
