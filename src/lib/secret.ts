/** A secret that neither JSON, a template string nor `util.inspect` shows; only `reveal()` gives it. */
export interface Secret {
  reveal(): string;
}

/** Knows every secret of this run, so that no text leaves the process with one of them in it. */
export interface SecretVault {
  /** Remembers a secret and wraps it. */
  keep(text: string): Secret;
  /** The text with every known secret, every password inside a URL and every age private key replaced by `***`. */
  scrub(text: string): string;
  /**
   * The same for results, which hold names that scripts go by and no secret by how they are made: a known secret that
   * could be a name stays, since a password such as `tenant` would blot out the database of that name.
   */
  scrubResult(text: string): string;
}

export function secretVault(): SecretVault {
  const known = new Set<string>();
  const without = (forms: readonly string[], text: string) => {
    const longestFirst = forms.toSorted((a, b) => b.length - a.length);
    const scrubbed = longestFirst.reduce((rest, form) => rest.replaceAll(form, "***"), text);
    return scrubbed
      .replaceAll(/([a-z][a-z0-9+.-]*:\/\/[^\s:/@]*):[^\s/@]+@/gi, "$1:***@")
      .replaceAll(/AGE-SECRET-KEY-[A-Z0-9-]+/gi, "AGE-SECRET-KEY-***");
  };
  return {
    keep(text) {
      for (const form of [text, encodeURIComponent(text), JSON.stringify(text).slice(1, -1)]) {
        if (form.length >= shortestScrubbed) known.add(form);
      }
      return secret(text);
    },
    scrub: (text) => without([...known], text),
    scrubResult: (text) =>
      without(
        [...known].filter((form) => !couldBeName.test(form)),
        text,
      ),
  };
}

/** What databases, roles, instances and hosts are called; generated passwords are longer or have other characters. */
const couldBeName = /^[\p{L}\p{N}_.-]{1,23}$/u;

/** Shorter ones would blot out ordinary words of a message. */
const shortestScrubbed = 4;

export function secret(text: string): Secret {
  return { reveal: () => text };
}
