import { expect, it } from "vitest";
import { systemClock as clock } from "../../src/lib/time.ts";
import { noteVerified, readDamage, withChildren } from "../../src/repo/damage.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { repositoryIn } from "./support.ts";

const backup = { instance: "shared", id: "base-1" };

it("damage that a restore found is not refuted by reading the bytes back, but by another restore", async () => {
  const repository = await repositoryIn(memoryStore());
  await noteVerified(repository, backup, { problems: ["its WAL is gone"], deep: true, clock });
  await noteVerified(repository, backup, { problems: [], deep: false, clock });
  expect((await readDamage(repository)).get("shared/base-1")?.problems).toEqual(["its WAL is gone"]);
  await noteVerified(repository, backup, { problems: ["base.tar is missing"], deep: false, clock });
  await noteVerified(repository, backup, { problems: [], deep: false, clock });
  expect((await readDamage(repository)).size).toBe(1);
  await noteVerified(repository, backup, { problems: [], deep: true, clock });
  expect((await readDamage(repository)).size).toBe(0);
});

it("a record that cannot be read counts as damage", async () => {
  const repository = await repositoryIn(memoryStore());
  await repository.store.put("damaged/shared/base-1.json", Buffer.from("{"));
  expect([...(await readDamage(repository)).keys()]).toEqual(["shared/base-1"]);
});

it("what builds on a damaged backup is damaged, whatever the order", () => {
  const of = (id: string, parent?: string) => ({ instance: "shared", id, parent });
  const chain = [of("c", "b"), of("b", "a"), of("a"), of("other")];
  expect(withChildren(chain, new Set(["shared/a"]))).toEqual(new Set(["shared/a", "shared/b", "shared/c"]));
});
