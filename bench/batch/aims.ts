/** What the figures are held against. They are printed beside the figures; no test depends on a time. */

export interface Aim {
  what: string;
  aim: string;
  measured: number | undefined;
  met: boolean | undefined;
}

export function atLeast(what: string, measured: number | undefined, least: number, unit = ""): Aim {
  return { what, aim: `at least ${least}${unit}`, measured, met: measured === undefined ? undefined : measured >= least };
}

export function atMost(what: string, measured: number | undefined, most: number, unit = ""): Aim {
  return { what, aim: `at most ${most}${unit}`, measured, met: measured === undefined ? undefined : measured <= most };
}
