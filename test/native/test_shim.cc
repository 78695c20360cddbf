// The engine where the host's SIMT machine is the card: what only the machine can do, a driver that makes no graphs.
#include "test/native/engine_fixture.h"

namespace himap::test {
namespace {

TEST("graphs: where a driver refuses them the bits are those of no graphs") {
  const std::unique_ptr<Engine> off = open_engine(10 * kTinyPages, false), refused = open_engine(10 * kTinyPages);
  const std::vector<StepResult> right = busy_day(*off);
  setenv("HIMAP_SHIM_GRAPHS", "refuse", 1);
  const std::vector<StepResult> got = busy_day(*refused);
  unsetenv("HIMAP_SHIM_GRAPHS");
  CHECK_EQ(got.size(), right.size());
  for (size_t i = 0; i < right.size(); ++i) CHECK(same(got[i], right[i]));
  CHECK(refused->decode_graphs().refused >= 3 && refused->vision_graphs().refused == 1);
  CHECK_EQ(refused->decode_graphs().recorded + refused->decode_graphs().replayed, 0);
}

}  // namespace
}  // namespace himap::test

TEST_MAIN()
