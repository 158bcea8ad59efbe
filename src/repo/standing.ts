import { PgkitError } from "../lib/errors.ts";
import { guardedStore } from "../store/guarded.ts";
import type { ObjectStore } from "../store/store.ts";
import { identityKey } from "./layout.ts";
import { openRepository, type Repository } from "./repository.ts";

/**
 * The repository in a folder, for as long as it is there. Of a file system that is not mounted any more, the empty folder
 * beneath answers: it has nothing, and takes everything. Then `store-failed` is the answer. `device` tells the number of
 * the folder's file system, which also changes when the same one is mounted again.
 */
export async function standing<Opened extends Repository>(
  repository: Opened,
  device: () => Promise<string>,
): Promise<Opened & { store: ObjectStore }> {
  const { store, where, id } = repository;
  let known = await device();
  const guard = async () => {
    const now = await device();
    const there = (await store.head(identityKey)) !== undefined;
    const same = there && (now === known || (await openRepository(store, repository)).id === id);
    if (!same) throw gone(where, id, there);
    known = now;
  };
  return { ...repository, store: guardedStore(store, guard) };
}

function gone(where: string, id: string, isOther: boolean): PgkitError {
  const now = isOther ? "another repository is there now" : "there is no repository now";
  return new PgkitError("store-failed", `${where} was the repository ${id}, and ${now}`, {
    hint: "is its file system still mounted? nothing that was written meanwhile counts",
  });
}
