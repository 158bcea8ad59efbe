/**
 * The exit status for a failure. PostgreSQL reads that of two commands: for restore_command anything up to 125 is the end
 * of the archive, so that every failure of `wal fetch` is 200 (the command gives 1 itself, where absence is proven); for
 * archive_command anything above 125 restarts the archiver. Goes by the words of the command line, as it must hold where
 * those could not be understood.
 */
export function failureStatus(args: readonly string[], status: number): number {
  const group = args.indexOf("wal");
  const rest = group < 0 ? [] : args.slice(group + 1);
  if (rest.includes("fetch")) return 200;
  return rest.includes("push") ? Math.min(status, 125) : status;
}
