# The native tests and the fuzz targets under AddressSanitizer and UndefinedBehaviorSanitizer, in a build folder of their
# own: scripts/sanitize.ts. With clang the targets are libFuzzer's; with any other compiler test/fuzz/native/driver.cc
# runs them on their corpus and on mutations of it.
set(HIMAP_SANITIZERS -fsanitize=address,undefined,float-cast-overflow)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  set(HIMAP_FUZZ_MAIN "")
  set(HIMAP_FUZZ_OPTIMIZE -O2)  # for long runs; the other is built for a few thousand inputs
  set(HIMAP_FUZZ_LINK -fsanitize=fuzzer)
else()
  set(HIMAP_FUZZ_MAIN test/fuzz/native/driver.cc)
  set(HIMAP_FUZZ_LINK "")
  set(HIMAP_FUZZ_OPTIMIZE -O1)
endif()
target_compile_options(himap_options INTERFACE ${HIMAP_SANITIZERS} -fno-sanitize-recover=all -fno-omit-frame-pointer ${HIMAP_FUZZ_OPTIMIZE} -g1)
target_compile_definitions(himap_options INTERFACE _GLIBCXX_ASSERTIONS)
target_link_options(himap_options INTERFACE ${HIMAP_SANITIZERS})

if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  # Coverage of what foreign data steers, not of the kernels' loops; and comparisons are followed where the input is a text
  # with words in it. Both together took nine tenths of the time.
  target_compile_options(himap_core PRIVATE -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp)
  set_source_files_properties(native/model/manifest.cc PROPERTIES COMPILE_OPTIONS -fsanitize-coverage=trace-cmp)
endif()

# Laid out as a checkout's build folder, so that HIMAP_PREBUILD can name it.
set(HIMAP_SANITIZED_RELEASE ${CMAKE_CURRENT_BINARY_DIR}/build/Release)
if(TARGET himap_node)
  set_target_properties(himap_node PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${HIMAP_SANITIZED_RELEASE} LINK_OPTIONS "${HIMAP_SANITIZERS}")
endif()

# A backend's library finds the sanitizers' runtime in the program that opens it, so nothing is linked into it.
set_target_properties(himap_cpu PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${HIMAP_SANITIZED_RELEASE}
  LINK_OPTIONS "${HIMAP_SANITIZERS};-Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/native/backend/exports.map")
foreach(program core image cpu replay fault)
  set_target_properties(test_${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests)
endforeach()
set_target_properties(himap_fault PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests LINK_OPTIONS "${HIMAP_SANITIZERS}")
# Not where `npm test` has its own, which no program without the sanitizers could open any more.
set_target_properties(himap_shim PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests)

add_library(himap_fuzz STATIC test/native/made_model.cc test/native/tiny_model.cc ${HIMAP_FUZZ_MAIN})
target_link_libraries(himap_fuzz PUBLIC himap_core)
foreach(entry manifest step preprocess)
  add_executable(fuzz_${entry} test/fuzz/native/fuzz_${entry}.cc)
  target_link_libraries(fuzz_${entry} PRIVATE himap_fuzz)
  target_link_options(fuzz_${entry} PRIVATE ${HIMAP_FUZZ_LINK})
  target_compile_definitions(fuzz_${entry} PRIVATE HIMAP_LIBRARY_FOLDER="$<TARGET_FILE_DIR:himap_cpu>")
  add_dependencies(fuzz_${entry} himap_cpu)
endforeach()

# The backend is linked in, so that what it asks of the system can fail as well.
add_executable(test_fail_nth test/native/test_fail_nth.cc test/native/fail_nth.cc test/native/made_model.cc test/native/tiny_model.cc ${HIMAP_CPU_OBJECTS})
target_link_libraries(test_fail_nth PRIVATE himap_core)
# Only the library's file is looked at: what is called is in the program.
target_compile_definitions(test_fail_nth PRIVATE HIMAP_LIBRARY_FOLDER="$<TARGET_FILE_DIR:himap_cpu>")
add_dependencies(test_fail_nth himap_cpu)
set_target_properties(test_fail_nth PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests)
target_link_options(test_fail_nth PRIVATE ${HIMAP_FAIL_NTH_OPTIONS})
