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
}

export function secretVault(): SecretVault {
  const known = new Set<string>();
  return {
    keep(text) {
      for (const form of [text, encodeURIComponent(text), JSON.stringify(text).slice(1, -1)]) {
        if (form.length >= shortestScrubbed) known.add(form);
      }
      return secret(text);
    },
    scrub: (text) => {
      const longestFirst = [...known].sort((a, b) => b.length - a.length);
      const scrubbed = longestFirst.reduce((rest, form) => rest.replaceAll(form, "***"), text);
      return scrubbed
        .replaceAll(/([a-z][a-z0-9+.-]*:\/\/[^\s:/@]*):[^\s/@]+@/gi, "$1:***@")
        .replaceAll(/AGE-SECRET-KEY-[A-Z0-9-]+/gi, "AGE-SECRET-KEY-***");
    },
  };
}

/** Shorter ones would blot out ordinary words of a message. */
const shortestScrubbed = 4;

export function secret(text: string): Secret {
  return { reveal: () => text };
}
