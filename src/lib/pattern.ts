/** A test for patterns in which `*` is any text, `?` any character, and all else itself. */
export function matchesPattern(name: string): (pattern: string) => boolean {
  return (pattern) => {
    const source = pattern.replaceAll(/[.*+?^${}()|[\]\\]/g, (special) =>
      special === "*" ? ".*" : special === "?" ? "." : `\\${special}`,
    );
    return new RegExp(`^${source}$`, "su").test(name);
  };
}
