import { join } from "node:path";

/** Where repositories can be: each under a name of its own, for pgkit and for pgbackrest. */
export interface Place {
  /** For the rows: `a folder` or `S3`. */
  where: string;
  /** Lines of pgkit.yaml. */
  ours(name: string): string[];
  /** Lines of pgbackrest.conf. */
  theirs(name: string): string[];
  /** The folder to remove when it is not needed any more. */
  folder?(name: string): string;
}

export function folderPlace(folder: string): Place {
  return {
    where: "a folder",
    ours: (name) => [`repository: ${join(folder, name)}`],
    theirs: (name) => [`repo1-path=${join(folder, name)}`],
    folder: (name) => join(folder, name),
  };
}
