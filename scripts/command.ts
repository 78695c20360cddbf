/** Child processes of scripts and of the packaging tests. */

import { spawnSync } from "node:child_process";
import path from "node:path";

export interface End {
  status: number | null;
  stdout: string;
  /** Both streams. */
  output: string;
}

export interface RunOptions {
  cwd: string;
  /** The whole environment. */
  env: NodeJS.ProcessEnv;
  /** Milliseconds after which it is killed. */
  limit?: number;
}

/** Runs a command to its end. */
export function run(command: string, args: readonly string[], { cwd, env, limit = 1_200_000 }: RunOptions): End {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, { cwd, env, encoding: "utf8", maxBuffer: 1 << 28, timeout: limit, killSignal: "SIGKILL" });
  const end = error ? `${error.message}\n` : signal ? `ended by ${signal}\n` : "";
  return { status, stdout: stdout ?? "", output: `${stdout ?? ""}${stderr ?? ""}${end}` };
}

/** As `run`. @throws Error with what it printed unless it ended well */
export function runWell(command: string, args: readonly string[], options: RunOptions): End {
  const end = run(command, args, options);
  if (end.status !== 0) throw new Error(`${path.basename(command)} ${args.join(" ")} ended with ${end.status}\n${end.output}`);
  return end;
}
