/** Faults of a conversation. What a picture's bytes hold shows when they are read; here its form is looked at. */

import type { Faults } from "../check.js";
import { limits } from "../defaults.js";
import { checkPicture } from "../image/check.js";
import type { ImageEmbedding, ImageInput, Message, Part } from "../types.js";

/** What an embedding must match. */
export interface ImageFacts {
  /** Tokens of one image. */
  imageTokens: number;
  /** Width of a projected token. */
  hidden: number;
  fingerprint: string;
}

export interface Conversation {
  messages: Message[];
  images: number;
  /** UTF-16 units of all texts. */
  characters: number;
}

/**
 * Checks a conversation and copies it; pictures are kept as they are. A bare string is one user message.
 * The result is `undefined` where there are faults.
 */
export function checkMessages(value: unknown, facts: ImageFacts, faults: Faults): Conversation | undefined {
  const before = faults.count;
  const conversation: Conversation = { messages: [], images: 0, characters: 0 };
  if (typeof value === "string") {
    conversation.messages.push({ role: "user", content: value });
    conversation.characters = value.length;
  } else {
    const list = faults.elements(value, "messages", limits.messages);
    if (!list) return undefined;
    if (list.length === 0) faults.add("at least one message", "messages", value);
    list.forEach((message, i) => readMessage(message, i, i === list.length - 1, conversation, facts, faults));
  }
  if (conversation.images > limits.images) faults.add(`at most ${limits.images} images`, "messages", conversation.images);
  if (conversation.characters > limits.characters) {
    faults.add(`at most ${limits.characters} characters of text`, "messages", conversation.characters);
  }
  return faults.count === before ? conversation : undefined;
}

function readMessage(value: unknown, index: number, last: boolean, conversation: Conversation, facts: ImageFacts, faults: Faults): void {
  const where = `messages[${index}]`;
  const message = faults.properties(value, where, ["role", "content"]);
  if (!message) return;
  const role = faults.oneOf(message.role, `${where}.role`, ["system", "user", "assistant"]);
  if (role === "system" && index > 0) faults.add("a system message only at the start", `${where}.role`, role);
  if (role && role !== "user" && last) faults.add('"user" (the last message is what is answered)', `${where}.role`, role);
  if (typeof message.content === "string") {
    conversation.characters += message.content.length;
    if (role) conversation.messages.push({ role, content: message.content });
    return;
  }
  const parts = faults.elements(message.content, `${where}.content`, limits.messages);
  if (!parts) return;
  if (parts.length === 0) faults.add("a string or at least one part", `${where}.content`, message.content);
  const content: Part[] = [];
  parts.forEach((part, i) => {
    const read = readPart(part, `${where}.content[${i}]`, facts, faults);
    if (!read) return;
    if (read.type === "text") conversation.characters += read.text.length;
    else {
      conversation.images += 1;
      if (role && role !== "user") faults.add("images only in user messages", `${where}.content[${i}].type`, read.type);
    }
    content.push(read);
  });
  if (role) conversation.messages.push({ role, content });
}

function readPart(value: unknown, where: string, facts: ImageFacts, faults: Faults): Part | undefined {
  const part = faults.properties(value, where, ["type", "text", "image"]);
  if (!part) return undefined;
  const type = faults.oneOf(part.type, `${where}.type`, ["text", "image"]);
  if (type === "text") {
    if (part.image !== undefined) faults.add("no image in a text part", `${where}.image`, part.image);
    const text = faults.string(part.text, `${where}.text`);
    return text === undefined ? undefined : { type, text };
  }
  if (type === "image") {
    if (part.text !== undefined) faults.add("no text in an image part", `${where}.text`, part.text);
    const image = checkImage(part.image, `${where}.image`, facts, faults);
    return image && { type, image };
  }
  return undefined;
}

/** Whether a text has the mark by which other libraries place a picture. */
export function hasImageMark(messages: readonly Message[]): boolean {
  return messages.some(({ content }) =>
    typeof content === "string" ? content.includes(imageMark) : content.some((part) => part.type === "text" && part.text.includes(imageMark)),
  );
}

const imageMark = "<image>";

/** Where a conversation has its nth image, as its faults name it. */
export function imageWhere(messages: readonly Message[], nth: number): string {
  const places = messages.flatMap(({ content }, i) =>
    typeof content === "string" ? [] : content.flatMap(({ type }, j) => (type === "image" ? `messages[${i}].content[${j}].image` : [])),
  );
  return places[nth]!;
}

/** Checks the form of a picture, and all of an embedding. */
export function checkImage(value: unknown, where: string, facts: ImageFacts, faults: Faults): ImageInput | undefined {
  const image = checkPicture(value, where, faults);
  return image && "embedding" in image ? checkEmbedding(image.embedding, `${where}.embedding`, facts, faults) : image;
}

function checkEmbedding(value: unknown, where: string, facts: ImageFacts, faults: Faults): ImageInput | undefined {
  const embedding = faults.properties(value, where, ["features", "tokens", "fingerprint", "image"]);
  if (!embedding) return undefined;
  const { features, fingerprint, tokens, image } = embedding as Partial<ImageEmbedding>;
  if (fingerprint !== facts.fingerprint) {
    faults.add(`the fingerprint ${facts.fingerprint} of this engine`, `${where}.fingerprint`, fingerprint);
    return undefined;
  }
  if (tokens !== facts.imageTokens) {
    faults.add(`${facts.imageTokens}`, `${where}.tokens`, tokens);
    return undefined;
  }
  const checked = faults.floats(features, `${where}.features`, facts.imageTokens * facts.hidden);
  if (!checked) return undefined;
  if (typeof image !== "object" || image === null) {
    faults.add("the picture's placement", `${where}.image`, image);
    return undefined;
  }
  return { embedding: { features: checked, fingerprint, tokens, image } };
}
