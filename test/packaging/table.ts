/** The table of what was tried: a row as soon as it is known, and the counts at the end. */

/** Thrown by a case that cannot be run on this machine. */
export class Skip extends Error {}

export interface Row {
  area: string;
  name: string;
  result: "ok" | "FAIL" | "skip";
  seconds: number;
  note: string;
}

export class Table {
  readonly rows: Row[] = [];

  constructor(private readonly wanted: (name: string) => boolean, private readonly print: (line: string) => void = console.log) {}

  /** Whether a case of this name was asked for: work that only it needs can be left out. */
  wants(area: string, name = ""): boolean {
    return this.wanted(`${area} ${name}`);
  }

  /** Runs a case: a note where it holds, `Skip` where it cannot be run, any other error where it fails. */
  run(area: string, name: string, work: () => string): void {
    if (!this.wants(area, name)) return;
    const started = performance.now();
    const row: Row = { area, name, result: "ok", seconds: 0, note: "" };
    let details = "";
    try {
      row.note = work();
    } catch (error) {
      const { message, stack } = error as Error;
      row.result = error instanceof Skip ? "skip" : "FAIL";
      row.note = message.split("\n", 1)[0]!;
      if (row.result === "FAIL") details = (stack ?? message).replace(/^/gm, "     ");
    }
    row.seconds = (performance.now() - started) / 1000;
    this.rows.push(row);
    this.print(`${row.result.padEnd(5)}${row.area.padEnd(22)}${row.name.padEnd(34)}${row.seconds.toFixed(1).padStart(6)} s  ${row.note}`);
    if (details) this.print(details);
  }

  count(result: Row["result"]): number {
    return this.rows.filter((row) => row.result === result).length;
  }

  /** `N passed, N failed, N skipped` */
  get summary(): string {
    return `${this.count("ok")} passed, ${this.count("FAIL")} failed, ${this.count("skip")} skipped`;
  }
}

/** @throws Error with what was found instead */
export function expect(holds: boolean, what: string, found: unknown): void {
  if (!holds) throw new Error(`expected ${what} but received ${typeof found === "string" ? found : JSON.stringify(found)}`);
}
