import { orAbort, throwIfAborted } from "./abort.js";

/** Lets at most `width` pieces of work run at once; the others wait in order. */
export class Gate {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly width: number) {}

  /**
   * Runs `work` when its turn comes. On abort the caller is answered at once; work that has begun keeps its place until it
   * really ends, for it still occupies a thread.
   * @throws ERR_ABORTED
   */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return orAbort(this.inTurn(work, signal), signal);
  }

  private async inTurn<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    if (this.running >= this.width) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running++;
    try {
      throwIfAborted(signal);
      return await work();
    } finally {
      // The place goes straight to the next in line.
      const next = this.waiting.shift();
      if (next) next();
      else this.running--;
    }
  }
}
