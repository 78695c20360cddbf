// What a user's compiler sees of the package, by require.
import himap = require("himap");
import linux = require("himap/linux-x64");

export const open: typeof himap.load = linux.load;
export const failure: himap.HimapError | undefined = undefined;
export const cuts: himap.Cut[] = himap.presets.himap.cuts(32, 0);
export const ask = (engine: himap.Engine, messages: readonly himap.Message[]): Promise<himap.Result> => engine.generate(messages);
