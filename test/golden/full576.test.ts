import { goldenSuite } from "../helpers/golden.js";

goldenSuite("full576");
