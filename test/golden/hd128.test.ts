import { goldenSuite } from "../helpers/golden.js";

goldenSuite("hd128");
