import { doctor, load } from "himap/linux-x64";
import { answer } from "./answer.mjs";

console.log(await answer(load));
console.log((await doctor()).binary.why);
