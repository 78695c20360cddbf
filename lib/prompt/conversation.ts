/** The shortest conversation there is. */

import type { ImageInput, Message } from "../types.js";

/** One question behind its pictures, and a system message before it where there is one. */
export function conversationOf(prompt: string, images: readonly ImageInput[], system?: string): Message[] {
  const pictures = images.map((image) => ({ type: "image" as const, image }));
  const question: Message = { role: "user", content: pictures.length === 0 ? prompt : [...pictures, { type: "text", text: prompt }] };
  return system === undefined ? [question] : [{ role: "system", content: system }, question];
}
