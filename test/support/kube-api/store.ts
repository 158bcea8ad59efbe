import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { admit } from "./admission.ts";
import { type Kind, type Obj, Refusal, type Tree } from "./objects.ts";
import { changedBy, type Owners, ownersAfterApply, renderOwners } from "./ownership.ts";

export interface StoredEvent {
  version: number;
  type: "ADDED" | "MODIFIED" | "DELETED";
  kind: Kind;
  object: Obj;
}

interface Stored {
  object: Obj;
  owners: Owners;
}

/** Objects, versions and what happened, as etcd and the API machinery keep them. */
export interface Store {
  read(kind: Kind, namespace: string, name: string): Obj | undefined;
  all(kind: Kind, namespace?: string): Obj[];
  create(kind: Kind, object: Obj, manager: string): Obj;
  /** Writes what `change` makes of the newest. A resourceVersion in it must be the newest: 409 else. */
  update(
    kind: Kind,
    namespace: string,
    name: string,
    manager: string,
    change: (object: Obj) => Obj,
    part?: "status",
  ): Obj;
  apply(kind: Kind, manifest: Obj, manager: string, force: boolean): Obj;
  remove(kind: Kind, namespace: string, name: string, preconditions?: Tree): Obj;
  /** The object; throws 404 where it is not there, and 409 where it is not the one that is meant. */
  check(kind: Kind, namespace: string, name: string, preconditions: Tree): Obj;
  /** Events after a version; throws 410 where they are forgotten. */
  since(version: number): StoredEvent[];
  readonly version: number;
  /** Forgets what has happened so far, as etcd does after five minutes. */
  compact(): void;
  onEvent(listener: (event: StoredEvent) => void): () => void;
}

export function createStore(): Store {
  const objects = new Map<string, Stored>();
  const listeners = new Set<(event: StoredEvent) => void>();
  let events: StoredEvent[] = [];
  let version = 1000;
  let oldest = version;
  const keyOf = (kind: Kind, namespace: string, name: string) => `${kind.group}/${kind.plural}/${namespace}/${name}`;

  function found(kind: Kind, namespace: string, name: string): Stored {
    const stored = objects.get(keyOf(kind, namespace, name));
    if (stored !== undefined) return stored;
    const group = kind.group === "" ? "" : `.${kind.group}`;
    const details = { name, group: kind.group, kind: kind.plural };
    throw new Refusal(404, "NotFound", `${kind.plural}${group} "${name}" not found`, details);
  }

  function happened(type: StoredEvent["type"], kind: Kind, object: Obj): void {
    const event = { version, type, kind, object: structuredClone(object) };
    events.push(event);
    for (const listener of [...listeners]) listener(event);
  }

  function write(kind: Kind, stored: Stored, next: Obj, owners: Owners): Obj {
    const before = stored.object;
    const sent = next.metadata.resourceVersion;
    if (sent !== undefined && sent !== before.metadata.resourceVersion) {
      const message = `Operation cannot be fulfilled on ${kind.plural} "${before.metadata.name}": the object has been modified; please apply your changes to the latest version and try again`;
      throw new Refusal(409, "Conflict", message, { name: before.metadata.name, kind: kind.plural });
    }
    admit(kind, next, before);
    const { uid, creationTimestamp, generation, resourceVersion } = before.metadata;
    Object.assign(next.metadata, { uid, creationTimestamp, generation, resourceVersion });
    next.metadata["managedFields"] = before.metadata["managedFields"];
    // A write that changes nothing is none: nobody is told, and the version stays.
    if (isDeepStrictEqual(next, before)) return structuredClone(before);
    if (!isDeepStrictEqual(next["spec"], before["spec"])) next.metadata.generation = (generation ?? 0) + 1;
    version += 1;
    next.metadata.resourceVersion = String(version);
    next.metadata["managedFields"] = renderOwners(owners, next.apiVersion);
    stored.object = next;
    stored.owners = owners;
    happened("MODIFIED", kind, next);
    return structuredClone(next);
  }

  const store: Store = {
    get version() {
      return version;
    },
    read: (kind, namespace, name) => structuredClone(objects.get(keyOf(kind, namespace, name))?.object),
    all: (kind, namespace) =>
      [...objects]
        .filter(([key]) =>
          key.startsWith(`${kind.group}/${kind.plural}/${namespace === undefined ? "" : `${namespace}/`}`),
        )
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([, { object }]) => structuredClone(object)),
    create(kind, sent, manager) {
      const object = structuredClone(sent);
      const { name, namespace = "" } = object.metadata;
      if (kind.namespaced && !objects.has(`/namespaces//${namespace}`)) {
        throw new Refusal(404, "NotFound", `namespaces "${namespace}" not found`, {
          name: namespace,
          kind: "namespaces",
        });
      }
      if (objects.has(keyOf(kind, namespace, name))) {
        throw new Refusal(409, "AlreadyExists", `${kind.plural} "${name}" already exists`, { name, kind: kind.plural });
      }
      admit(kind, object, undefined);
      version += 1;
      const owners = changedBy([], manager, {} as Obj, object);
      const metadata = { uid: randomUUID(), resourceVersion: String(version), generation: 1 };
      Object.assign(object.metadata, metadata, { creationTimestamp: new Date().toISOString().replace(/\.\d+/, "") });
      object.metadata["managedFields"] = renderOwners(owners, object.apiVersion);
      objects.set(keyOf(kind, namespace, name), { object, owners });
      happened("ADDED", kind, object);
      return structuredClone(object);
    },
    update(kind, namespace, name, manager, change, part) {
      const stored = found(kind, namespace, name);
      const next = change(structuredClone(stored.object));
      if (next.metadata.name !== name)
        throw new Refusal(400, "BadRequest", "the name of the object does not match the URL");
      if (part === undefined) next["status"] = stored.object["status"];
      if (next["status"] === undefined) delete next["status"];
      return write(kind, stored, next, changedBy(stored.owners, manager, stored.object, next));
    },
    apply(kind, manifest, manager, force) {
      const { name, namespace = "" } = manifest.metadata;
      const stored = objects.get(keyOf(kind, namespace, name));
      if (stored === undefined) {
        const made = store.create(kind, manifest, manager);
        const now = found(kind, namespace, name);
        now.owners = ownersAfterApply({ object: {} as Obj, owners: [] }, manifest, manager, true).owners;
        now.object.metadata["managedFields"] = renderOwners(now.owners, made.apiVersion);
        return structuredClone(now.object);
      }
      const { object, owners } = ownersAfterApply(stored, manifest, manager, force);
      return write(kind, stored, object, owners);
    },
    check(kind, namespace, name, preconditions) {
      const { object } = found(kind, namespace, name);
      if (preconditions["uid"] !== undefined && preconditions["uid"] !== object.metadata.uid) {
        throw new Refusal(409, "Conflict", `Precondition failed: UID in precondition: ${preconditions["uid"]}`, {
          name,
        });
      }
      return structuredClone(object);
    },
    remove(kind, namespace, name, preconditions = {}) {
      const object = store.check(kind, namespace, name, preconditions);
      version += 1;
      objects.delete(keyOf(kind, namespace, name));
      const gone = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
      happened("DELETED", kind, gone);
      return gone;
    },
    since(from) {
      if (from < oldest) throw new Refusal(410, "Expired", `too old resource version: ${from} (${oldest})`);
      return events.filter((event) => event.version > from);
    },
    compact() {
      events = [];
      // Whoever saw the newest version has missed nothing; all others have.
      version += 1;
      oldest = version;
    },
    onEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return store;
}
