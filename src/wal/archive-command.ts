/** What the two commands that a server runs depend on. */
export interface ServerCommands {
  instance: string;
  /** Relative to the data directory, which is the working folder of both commands, or absolute. */
  spool: string;
  /** Words of a shell by which the server's machine runs pgkit; see `shellWords`. */
  command: string;
}

/**
 * The text of archive_command. A segment that a worker has stored already has a note in the spool, which a shell finds
 * without starting pgkit; `-nt`, so that a note left over of an earlier segment of that name acknowledges nothing.
 */
export function archiveCommand({ instance, spool, command }: ServerCommands): string {
  return `test ${literally(spool)}/%f.ok -nt %p || ${percents(command)} --instance ${shellWord(instance)} wal push %p`;
}

/** For so many hundredths of a second a segment is waited for that is on its way; its worker may have been killed. */
const onItsWay = 500;

/**
 * The text of restore_command: a segment that was fetched ahead is only renamed, and one that is on its way is waited for.
 * To start pgkit for it would take from the worker the processor that it needs.
 */
export function restoreCommand({ instance, spool, command }: ServerCommands): string {
  const folder = `${literally(spool)}/in`;
  const waiting = `n=0; while [ -e ${folder}/.%f.part ] && [ $n -lt ${onItsWay} ]; do n=$((n+1)); sleep 0.01; done`;
  const fetching = `${percents(command)} --instance ${shellWord(instance)} wal fetch %f %p`;
  return `${waiting}; mv ${folder}/%f %p 2>/dev/null || ${fetching}`;
}

/** A program with its arguments as one text for a shell, every word taken as it is. */
export function shellWords(words: readonly string[]): string {
  return words.map(shellWord).join(" ");
}

/** One word of a shell, quoted where it needs it. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_.,:=@%/+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function literally(path: string): string {
  return percents(shellWord(path));
}

/** PostgreSQL takes `%p` and the like for its own, and `%%` for a percent sign. */
function percents(text: string): string {
  return text.replaceAll("%", "%%");
}
