/** Numbers and tables in words, for people at a terminal. */

/** A number in three figures: `8.40`, `1,630`. */
export function numberText(value: number): string {
  return value < 999.5 ? value.toPrecision(3) : Number(value.toPrecision(3)).toLocaleString("en-US");
}

/** `1 item`, `2 items`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

const units = ["bytes", "kB", "MB", "GB", "TB"];

/** Bytes in three figures: `14.1 GB`. */
export function bytesText(bytes: number): string {
  let power = 0;
  let value = bytes;
  for (; value >= 999.5 && power < units.length - 1; power++) value /= 1000;
  return `${power === 0 ? value : numberText(value)} ${units[power]}`;
}

export function countText(count: number): string {
  return count >= 1e9 ? `${(count / 1e9).toFixed(2)} billion` : count >= 1e6 ? `${(count / 1e6).toFixed(2)} million` : String(count);
}

/** Columns as wide as their widest cell; the first to the left, others to the right. */
export function table(rows: string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const pad = (cell: string, column: number): string => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!));
  return rows.map((row) => `  ${row.map(pad).join("   ")}`);
}

/** Milliseconds in three figures: `14.1 ms`, `2.35 s`. */
export function millisecondsText(ms: number): string {
  return ms >= 999.5 ? `${numberText(ms / 1000)} s` : `${ms >= 99.95 ? ms.toFixed(0) : ms.toPrecision(ms >= 1 ? 3 : 2)} ms`;
}

/** A length of time as people say it: `43 s`, `5 min 43 s`, `2 h 5 min`. */
export function durationText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** Operations in three figures: `1.18 GFLOP`. */
export function flopsText(flops: number): string {
  const [scale, unit] = flops >= 0.9995e12 ? [1e12, "TFLOP"] : flops >= 0.9995e9 ? [1e9, "GFLOP"] : [1e6, "MFLOP"];
  return `${numberText(flops / scale)} ${unit}`;
}

/** A share in whole per cent, or with one decimal below 10. */
export function percentText(share: number): string {
  const percent = share * 100;
  return `${percent < 9.95 && percent > 0 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

/** Text for a terminal: control characters, which could move its cursor or worse, are shown as U+FFFD. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd");
}

/** Lines of at most `width` characters, broken between words where that is possible. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      if (line !== "" && line.length + 1 + word.length > width) {
        lines.push(line);
        line = "";
      }
      line = line === "" ? word : `${line} ${word}`;
      for (; line.length > width; line = line.slice(width)) lines.push(line.slice(0, width));
    }
    lines.push(line);
  }
  return lines;
}
