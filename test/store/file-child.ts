import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { isPgkitError } from "../../src/lib/errors.ts";
import { thisOwner } from "../../src/lib/owner.ts";
import { systemClock } from "../../src/lib/time.ts";
import { readAll } from "../../src/store/body.ts";
import { withClaim } from "../../src/store/file/claim.ts";
import { fileStore } from "../../src/store/file.ts";

// What file.test.ts runs as processes of their own: node file-child.ts ROLE FOLDER [ARGUMENT]
const [role, path = "", argument = ""] = process.argv.slice(2);
const store = fileStore({ path });

switch (role) {
  case "hold-claim":
    await mkdir(dirname(path), { recursive: true });
    await withClaim(path, argument, await thisOwner(), systemClock, async () => {
      console.log("claimed");
      await new Promise((resolve) => setTimeout(resolve, 3_600_000));
    });
    break;
  case "count":
    for (let done = 0; done < Number(argument); ) if (await increment()) done += 1;
    break;
  case "put-for-ever":
    console.log("begun");
    for (let index = 0; ; index += 1) {
      const pieces = Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(65_536, index)));
      await store.put(`objects/${index % 7}`, pieces);
    }
  case "fill":
    try {
      await store.put("small", Buffer.from("fits"));
      await store.put("large", Buffer.alloc(20_000_000));
    } catch (error) {
      const code = isPgkitError(error) ? error.code : String(error);
      console.log(JSON.stringify({ code, message: String(error), large: (await store.head("large")) ?? null }));
    }
    break;
  default:
    throw new Error(`no role ${role}`);
}

/** Adds one to the number in the object; false when another was first. */
async function increment(): Promise<boolean> {
  const present = await store.head("counter");
  if (present === undefined) throw new Error("no counter");
  try {
    const value = Number(await readAll(await store.get("counter", { etag: present.etag })));
    await store.put("counter", Buffer.from(String(value + 1)), { when: { etag: present.etag } });
    return true;
  } catch (error) {
    if (isPgkitError(error, "condition-failed")) return false;
    throw error;
  }
}
