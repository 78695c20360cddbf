// What a user's compiler sees of the package, by require.
import himap = require("himap");
import linux = require("himap/linux-x64");

export const open: typeof himap.load = linux.load;
export const failure: himap.HimapError | undefined = undefined;
