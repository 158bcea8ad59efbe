/** The text of RESTORE.md: how to restore with standard programs alone. A test executes its commands. */
export function restoreGuide(): string {
  return "";
}
