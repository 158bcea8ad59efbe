import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { describe, expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { repositoryIn, storeBackup } from "../repo/support.ts";
import { checkedStore, emptyFolder } from "./support.ts";

async function keyPair() {
  const identity = await generateX25519Identity();
  const recipient = await identityToRecipient(identity);
  const identityFile = join(await emptyFolder(), "age.key");
  await writeFile(identityFile, `${identity}\n`, { mode: 0o600 });
  return { identity, recipient, identityFile, identities: async () => [identity] };
}

describe("pgkit check of encryption", () => {
  it("warns of a remote store that gets everything in clear, not of a folder", async () => {
    const remote = await checkedStore(memoryStore(), { url: "s3://bucket" });
    expect(remote.of("encryption")).toMatchObject([
      { level: "warning", remedy: expect.stringContaining("encryption.recipients") },
    ]);
    const folder = await checkedStore(memoryStore(), { url: "file:///nonexistent" });
    expect(folder.of("encryption")).toMatchObject([{ level: "ok" }]);
  });

  it("needs no identity to back up", async () => {
    const { recipient } = await keyPair();
    const result = await checkedStore(memoryStore(), {
      encryption: { recipients: [recipient], identityFile: undefined },
    });
    expect(result.problems()).toEqual([]);
    expect(result.of("identity")).toMatchObject([{ level: "ok" }]);
  });

  it("refuses a recipient with a letter changed before a backup would", async () => {
    const { recipient } = await keyPair();
    const changed = `${recipient.slice(0, -1)}${recipient.endsWith("q") ? "p" : "q"}`;
    const result = await checkedStore(memoryStore(), {
      encryption: { recipients: [changed], identityFile: undefined },
    });
    expect(result.status).toBe(2);
    expect(result.of("encryption")).toMatchObject([{ level: "error", code: "config" }]);
  });

  it("proves that the identity file opens what is encrypted, and that only its owner may read it", async () => {
    const ours = await keyPair();
    const theirs = await keyPair();
    const encryption = { recipients: [theirs.recipient, ours.recipient], identityFile: ours.identityFile };
    const good = await checkedStore(memoryStore(), { encryption, identities: ours.identities });
    expect(good.problems()).toEqual([]);
    await chmod(ours.identityFile, 0o644);
    const open = await checkedStore(memoryStore(), { encryption, identities: ours.identities });
    expect(open.of("identity")).toMatchObject([{ level: "warning", remedy: `chmod 600 ${ours.identityFile}` }]);
    const wrong = await checkedStore(memoryStore(), {
      encryption: { ...encryption, recipients: [theirs.recipient] },
      identities: ours.identities,
    });
    expect(wrong.status).toBe(12);
    expect(wrong.of("identity")).toMatchObject([
      { level: "error", code: "identity-wrong", message: expect.stringContaining(ours.recipient.slice(0, 12)) },
    ]);
    expect(JSON.stringify(wrong.findings)).not.toContain("AGE-SECRET-KEY");
  });

  it("tells of an identity file that cannot be read, or holds something else", async () => {
    const { recipient, identityFile } = await keyPair();
    const encryption = { recipients: [recipient], identityFile };
    const gone = () =>
      Promise.reject(new PgkitError("identity-required", "the age identity file cannot be read: ENOENT"));
    expect((await checkedStore(memoryStore(), { encryption, identities: gone })).status).toBe(2);
    const junk = await checkedStore(memoryStore(), { encryption, identities: async () => ["AGE-SECRET-KEY-1JUNK"] });
    expect(junk.of("identity")).toMatchObject([{ level: "error", code: "config" }]);
    expect(JSON.stringify(junk.findings)).not.toContain("JUNK");
  });

  it("names the newest backups that the identity does not open, after the keys were changed", async () => {
    const before = await keyPair();
    const now = await keyPair();
    const store = memoryStore();
    const repository = await repositoryIn(store);
    await storeBackup(repository, { id: "app-old", database: "app", recipients: [before.recipient] });
    await storeBackup(repository, { id: "n8n-old", database: "n8n", recipients: [before.recipient] });
    await storeBackup(repository, {
      id: "n8n-new",
      database: "n8n",
      recipients: [now.recipient],
      startedAt: "2026-11-02T02:00:00Z",
    });
    const encryption = { recipients: [now.recipient], identityFile: now.identityFile };
    const result = await checkedStore(store, { encryption, identities: now.identities });
    expect(result.of("readable")).toMatchObject([
      {
        level: "error",
        message: "the identity file does not open app-old",
        remedy: expect.stringContaining(before.recipient.slice(0, 12)),
      },
    ]);
    const both = await checkedStore(store, { encryption, identities: async () => [now.identity, before.identity] });
    expect(both.of("readable")).toMatchObject([{ level: "ok" }]);
  });
});
