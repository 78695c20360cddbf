// The whole test framework of the native tests: named cases, checks that go on after a failure, one last line of counts.
#pragma once

#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace himap::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> list;
  return list;
}

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

// Failed checks of the case that runs, and whether it asked to be skipped.
struct State {
  int failures = 0;
  bool skipped = false;
};

inline State& state() {
  static State current;
  return current;
}

inline void report(const char* file, int line, const std::string& text) {
  if (++state().failures <= 10) std::printf("  %s:%d: %s\n", file, line, text.c_str());  // one broken loop must not bury the rest
}

template <class A, class B>
void check_equal(const A& got, const B& expected, const char* text, const char* file, int line) {
  if (got == expected) return;
  std::ostringstream message;
  message << text << ": expected " << +expected << ", got " << +got;
  report(file, line, message.str());
}

inline void check_equal(const std::string& got, const std::string& expected, const char* text, const char* file, int line) {
  if (got != expected) report(file, line, std::string(text) + ": expected \"" + expected + "\", got \"" + got + "\"");
}

inline void skip(const std::string& reason) {
  std::printf("SKIP: %s\n", reason.c_str());
  state().skipped = true;
}

// Runs every case whose name contains `word`; the exit status of the program.
inline int run_all(const char* word) {
  int passed = 0, failed = 0, skipped = 0;
  for (const Case& test : cases()) {
    if (std::string(test.name).find(word) == std::string::npos) continue;
    state() = {};
    try {
      test.run();
    } catch (const std::exception& error) {
      report(test.name, 0, std::string("threw: ") + error.what());
    }
    if (state().failures > 0) {
      ++failed;
      std::printf("FAIL %s (%d checks)\n", test.name, state().failures);
    } else if (state().skipped) {
      ++skipped;
    } else {
      ++passed;
    }
  }
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed > 0 ? 1 : 0;
}

}  // namespace himap::test

#define HIMAP_JOIN2(a, b) a##b
#define HIMAP_JOIN(a, b) HIMAP_JOIN2(a, b)

// TEST("what holds") { ... }
#define TEST(name)                                                                                              \
  static void HIMAP_JOIN(test_case_, __LINE__)();                                                               \
  static const himap::test::Register HIMAP_JOIN(test_register_, __LINE__)(name, HIMAP_JOIN(test_case_, __LINE__)); \
  static void HIMAP_JOIN(test_case_, __LINE__)()

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) himap::test::report(__FILE__, __LINE__, #condition); \
  } while (0)

#define CHECK_EQ(got, expected) himap::test::check_equal((got), (expected), #got, __FILE__, __LINE__)

// The expression throws a himap::Error with this code.
#define CHECK_FAILS(expression, expected_code)                                                             \
  do {                                                                                                     \
    try {                                                                                                  \
      (void)(expression);                                                                                  \
      himap::test::report(__FILE__, __LINE__, #expression " did not throw");                               \
    } catch (const himap::Error& error) {                                                                  \
      CHECK_EQ(std::string(himap::code_name(error.code)), std::string(himap::code_name(expected_code)));   \
    }                                                                                                      \
  } while (0)

// Once per program, after the cases.
#define TEST_MAIN() \
  int main(int argc, char** argv) { return himap::test::run_all(argc > 1 ? argv[1] : ""); }
