// Tries, and prints how it went as one JSON object: the process has to live to its end.
//   node failure.mjs '{"device":"cuda"}' [checkpoint]
import { HimapError, load } from "himap";
import { answer, packageFolder } from "./answer.mjs";

const [options = "{}", checkpoint] = process.argv.slice(2);
const attempt = checkpoint === undefined ? answer(load, packageFolder, JSON.parse(options)) : load(checkpoint);
const outcome = await attempt.then(
  (text) => ({ text: String(text) }),
  (error) => ({ typed: error instanceof HimapError, code: error.code, message: error.message, hint: error.hint }),
);
console.log(JSON.stringify(outcome));
