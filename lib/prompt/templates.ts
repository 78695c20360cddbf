/**
 * The prompt templates, as the models were trained. A template turns a conversation into pieces by its structure; what
 * users wrote only ever goes into text pieces.
 */

import type { ImageInput, Message, TemplateName } from "../types.js";

/** A part of a prompt: text, an image's rows, or the end-of-sequence token. */
export type PromptPiece = { kind: "text"; text: string } | { kind: "image"; image: ImageInput } | { kind: "end" };

/** A message taken apart. */
interface Turn {
  role: Message["role"];
  texts: string[];
  images: ImageInput[];
}

const text = (content: string): PromptPiece => ({ kind: "text", text: content });

/** Images come first whatever their place among the parts, each with a line break behind it. */
const imagesOf = (turn: Turn): PromptPiece[] => turn.images.flatMap((image) => [{ kind: "image" as const, image }, text("\n")]);

/** Vicuna's conversation: a system sentence, then turns, an answer closed by the end-of-sequence token. */
function vicuna(system: string): (turns: Turn[]) => PromptPiece[] {
  return (turns) => {
    const own = turns[0]?.role === "system";
    return [
      ...(own ? [] : [text(`${system} `)]),
      ...turns.flatMap((turn) => {
        const words = turn.texts.join(" ");
        if (turn.role === "assistant") return [text("ASSISTANT: "), ...imagesOf(turn), text(words), { kind: "end" as const }];
        if (turn.role === "user") return [text("USER: "), ...imagesOf(turn), text(`${words} `)];
        return [...imagesOf(turn), text(words === "" ? "" : `${words} `)];
      }),
      text("ASSISTANT:"),
    ];
  };
}

/** The chat template that Hugging Face's conversions carry: no system sentence, nothing at the end of an answer. */
function huggingFace(turns: Turn[]): PromptPiece[] {
  return [
    ...turns.flatMap((turn) => [
      text(turn.role === "system" ? "" : `${turn.role.toUpperCase()}: `),
      ...imagesOf(turn),
      ...turn.texts.map((words) => text(`${words} `)),
    ]),
    text("ASSISTANT:"),
  ];
}

const sentence = (who: string) =>
  `A chat between a curious ${who} and an artificial intelligence assistant. ` +
  `The assistant gives helpful, detailed, and polite answers to the ${who}'s questions.`;

const templates: Record<TemplateName, (turns: Turn[]) => PromptPiece[]> = {
  vicuna_v1: vicuna(sentence("user")),
  llava_v1: vicuna(sentence("human")),
  hf: huggingFace,
};

/**
 * Lays a conversation out, ending where the answer begins. Another role counts as the user's, and what is neither text nor
 * image is left out: saying what is wrong with a request is not this function's task.
 */
export function layOut(messages: readonly Message[], template: TemplateName): PromptPiece[] {
  return templates[template](messages.map(turnOf));
}

function turnOf({ role, content }: Message): Turn {
  const turn: Turn = { role: role === "system" || role === "assistant" ? role : "user", texts: [], images: [] };
  for (const part of typeof content === "string" ? [{ type: "text" as const, text: content }] : content ?? []) {
    if (part.type === "text") turn.texts.push(`${part.text}`);
    else if (part.type === "image") turn.images.push(part.image);
  }
  return turn;
}
