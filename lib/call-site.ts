/** The stack of a public call, kept until the call fails: an error then names the caller's line, not a timer's or thread's. */
export class CallSite {
  declare readonly stack: string;

  /** @param entry the public function; its own frame and those below it are left out */
  constructor(entry: (...args: never[]) => unknown) {
    Error.captureStackTrace(this, entry);
  }

  /** Gives the error this stack. */
  mark<E extends Error>(error: E): E {
    const frames = this.stack.split("\n").filter((line) => line.startsWith("    at "));
    if (frames.length > 0) error.stack = `${error.name}: ${error.message}\n${frames.join("\n")}`;
    return error;
  }
}
