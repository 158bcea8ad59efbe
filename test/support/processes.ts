import { readdir, readFile } from "node:fs/promises";

/** The processes of this name that this process has started, by their ids. */
export async function childrenNamed(name: string): Promise<number[]> {
  const tasks = await readdir("/proc/self/task");
  const lists = await Promise.all(tasks.map((task) => contentOf(`/proc/self/task/${task}/children`)));
  const children = lists.join(" ").split(/\s+/).filter(Boolean);
  const names = await Promise.all(children.map((child) => contentOf(`/proc/${child}/comm`)));
  return children.filter((_, index) => names[index]?.trim() === name).map(Number);
}

/** Empty for a process that has ended meanwhile. */
async function contentOf(path: string): Promise<string> {
  return await readFile(path, "utf8").catch(() => "");
}
