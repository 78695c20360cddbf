/** Two answers beside each other: redrawn in place on a terminal, one below the other elsewhere. */

import { printable, wrap } from "../text.js";
import type { Terminal } from "./command.js";

/** An answer as it comes: `title`, then its text, then what it took. */
export interface Column {
  title: string;
  text: string;
  facts: string[];
}

export class Columns {
  readonly #terminal: Terminal;
  readonly #columns: readonly Column[];
  #drawn = 0;
  /** Off a terminal: the column being written, and how much of its text is. */
  #current = -1;
  #written = 0;

  constructor(terminal: Terminal, titles: readonly string[]) {
    this.#terminal = terminal;
    this.#columns = titles.map((title) => ({ title, text: "", facts: [] }));
  }

  /** Adds to a column; off a terminal columns must come in their order. */
  async add(index: number, text: string, facts: string[] = []): Promise<void> {
    const column = this.#columns[index]!;
    column.text += text;
    column.facts.push(...facts);
    if (this.#terminal.isTerminal.output) await this.#redraw();
    else await this.#append(index, column);
  }

  async #redraw(): Promise<void> {
    const lines = layOut(this.#columns, this.#terminal.columns);
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    this.#drawn = lines.length;
    await this.#terminal.write(up + lines.map((line) => `\x1b[2K${line}\n`).join(""));
  }

  async #append(index: number, { title, text, facts }: Column): Promise<void> {
    if (index !== this.#current) {
      [this.#current, this.#written] = [index, 0];
      await this.#terminal.write(`  ${title}: `);
    }
    await this.#terminal.write(text.slice(this.#written));
    this.#written = text.length;
    if (facts.length > 0) await this.#terminal.write(`\n${facts.map((fact) => `    ${fact}\n`).join("")}`);
  }
}

/** The lines of a block, without line ends; none is longer than `width`. */
export function layOut(columns: readonly Column[], width: number): string[] {
  const own = Math.floor((width - 1 - 3 * columns.length) / columns.length);
  /** One part of every column, each broken to the column's width; the next part starts on one line in all. */
  const part = (cells: readonly string[]): string[] => {
    const blocks = cells.map((cell) => wrap(printable(cell), own));
    const height = Math.max(...blocks.map(({ length }) => length));
    return Array.from({ length: height }, (_, i) => `  ${blocks.map((block) => (block[i] ?? "").padEnd(own)).join(" | ")}`.trimEnd());
  };
  const facts = Math.max(...columns.map((column) => column.facts.length));
  return [
    ...part(columns.map(({ title }) => title)),
    ...part(columns.map(({ text }) => text)),
    ...Array.from({ length: facts }, (_, i) => part(columns.map((column) => column.facts[i] ?? ""))).flat(),
  ];
}
