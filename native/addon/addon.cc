// Where Node enters.
#include "native/addon/module.h"

using himap::fill_module;

NODE_API_MODULE(himap, fill_module)
