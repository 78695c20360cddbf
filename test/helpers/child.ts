import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface ChildEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

/** Runs a TypeScript module given as text, in a Node of its own, in the repository; kills it after a minute. */
export function runModule(text: string, nodeOptions: string[] = [], env: Record<string, string> = {}): Promise<ChildEnd> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...nodeOptions, "--import", "tsx", "--input-type=module", "--eval", text], {
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
      timeout: 60_000,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (piece: string) => (output += piece));
    child.on("close", (code, signal) => resolve({ code, signal, output }));
  });
}
