/** The scoring rule of pico-eval (bench/pico-eval/README.md). */

export interface Question {
  id: number;
  scene: number;
  type: string;
  question: string;
  answer: string;
  /** Of captions: "colour shape" of each object. */
  objects?: string[];
}

const normal = (text: string): string => text.trim().toLowerCase().replace(/\.$/, "");

/** The objects that a caption names, sorted, or `undefined` where it is not a list of "a colour shape". */
function namedObjects(text: string): string[] | undefined {
  const parts = normal(text).split(/,| and /).map((part) => part.trim().split(/\s+/));
  if (parts.some((words) => words.length !== 3 || !["a", "an"].includes(words[0]!))) return undefined;
  return parts.map((words) => words.slice(1).join(" ")).sort();
}

export function isRight(question: Question, answer: string): boolean {
  if (!question.objects) return normal(answer) === normal(question.answer);
  return namedObjects(answer)?.join() === [...question.objects].sort().join();
}
