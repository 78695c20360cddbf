import { load } from "himap";
import { answer } from "./answer.mjs";

console.log(await answer(load));
