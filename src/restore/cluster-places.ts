import { join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import type { Manifest, StoredFile } from "../repo/manifest.ts";

/** Where the parts of a cluster lie on this machine. */
export interface Places {
  dataDir: string;
  /** Only those that are links out of the data directory; those created in place are folders of it. */
  tablespaces: readonly TablespacePlace[];
}

export interface TablespacePlace {
  oid: number;
  /** Where it was. */
  from: string;
  /** Where it goes. */
  to: string;
}

/** Under which pg_control waits until all else is durable: a server does not start without the file itself. */
export const controlPath = "global/pg_control";
export const waitingControlPath = "global/pg_control.pgkit";

/** Where everything of this backup goes; `mapped` names other places by the oids of tablespaces. */
export function placesOf(backup: Manifest, dataDir: string, mapped: ReadonlyMap<number, string>): Places {
  const recorded = (backup.base?.tablespaces ?? []).filter(({ location }) => location.startsWith("/"));
  const unknown = [...mapped.keys()].find((oid) => recorded.every((each) => each.oid !== oid));
  if (unknown !== undefined) {
    throw new PgkitError("usage", `backup ${backup.id} has no tablespace with the oid ${unknown}`, {
      hint: `it has ${recorded.map(({ oid, name, location }) => `${oid} (${name}, ${location})`).join(", ") || "none"}`,
    });
  }
  const tablespaces = recorded.map(({ oid, location }) => ({ oid, from: location, to: mapped.get(oid) ?? location }));
  for (const dir of [dataDir, ...mapped.values()]) {
    if (!dir.startsWith("/"))
      throw new PgkitError("usage", `the directory ${dir} must be given from the root on (/...)`);
  }
  refuseShared([{ what: "the data directory", dir: dataDir }, ...tablespaces.map(described)]);
  return { dataDir, tablespaces };
}

function described({ oid, to }: TablespacePlace): { what: string; dir: string } {
  return { what: `tablespace ${oid}`, dir: to };
}

function refuseShared(places: readonly { what: string; dir: string }[]): void {
  for (const [index, one] of places.entries()) {
    const other = places.slice(index + 1).find(({ dir }) => within(dir, one.dir) || within(one.dir, dir));
    if (other === undefined) continue;
    throw new PgkitError(
      "refused-overwrite",
      `${one.what} (${one.dir}) and ${other.what} (${other.dir}) share a place`,
      {
        hint: "give each a directory of its own with --tablespace OID=DIR",
      },
    );
  }
}

function within(inner: string, outer: string): boolean {
  return inner === outer || `${join(inner)}/`.startsWith(`${join(outer)}/`);
}

/** Which part of the cluster an archive holds: the oid of a tablespace, `undefined` for the data directory. */
export function archiveOf({ name, role }: StoredFile): { oid: number | undefined } | undefined {
  if (role === "base") return { oid: undefined };
  return role === "tablespace" ? { oid: Number.parseInt(name, 10) } : undefined;
}

/** What a member of an archive is called in backup_manifest. Fails with `object-corrupt` where it would lead elsewhere. */
export function manifestPathOf(oid: number | undefined, path: string, where: string): string {
  const parts = path.replace(/^\.\/(?=.)/, "").split("/");
  if (
    path === "." ||
    (path !== "" && parts.every((part) => part !== "" && part !== "." && part !== ".." && !part.includes("\0")))
  ) {
    const inside = path === "." ? "" : parts.join("/");
    return oid === undefined ? inside : join(`pg_tblspc/${oid}`, inside);
  }
  throw new PgkitError("object-corrupt", `${where} holds ${JSON.stringify(path)}, which leads out of the directory`, {
    hint: "nobody but pgkit should write to the repository: who changed it?",
  });
}

/** The file of a path of backup_manifest; one in a tablespace is not reached through the link, which could be changed. */
export function localPath({ dataDir, tablespaces }: Places, path: string): string {
  const [, oid, rest = ""] = /^pg_tblspc\/(\d+)(?:\/(.*))?$/.exec(path) ?? [];
  const place = oid === undefined ? undefined : tablespaces.find((each) => each.oid === Number(oid));
  if (place !== undefined && rest !== "") return join(place.to, rest);
  return join(dataDir, path === controlPath ? waitingControlPath : path);
}
