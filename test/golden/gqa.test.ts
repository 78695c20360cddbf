import { goldenSuite } from "../helpers/golden.js";

goldenSuite("gqa");
