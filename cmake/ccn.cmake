# What every folder's CMakeLists.txt may use.
#
#   ccn_flags                      interface target: C17, warnings as errors, sanitizers, include root
#   ccn_plain                      the same without sanitizers and hardening: for what is loaded into foreign programs
#   ccn_test(NAME SOURCES … LIBS …)        one cmocka executable, label "unit"
#   ccn_fuzz(NAME SOURCES … LIBS …)        LLVMFuzzerTestOneInput; built with libFuzzer in the fuzz preset, and
#                                          always as a replay program that runs tests/fuzz/corpus/NAME, label "replay"
#   ccn_functional(NAME COMMAND …  [TIMEOUT s] [COST s] [LABEL label])   a program run against real binaries; exit 77 = skipped
#   ccn_proto(TARGET FILE.proto)            messages for protobuf-c as a library of generated code

add_library(ccn_plain INTERFACE)
target_include_directories(ccn_plain INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_features(ccn_plain INTERFACE c_std_17)
target_compile_definitions(ccn_plain INTERFACE _GNU_SOURCE)
# texts for people are cut to their room on purpose: no format-truncation (clang does not know it)
target_compile_options(ccn_plain INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wcast-qual
  -Wformat=2 -Wno-unknown-warning-option -Wno-format-truncation -Wundef -Wpointer-arith -Wwrite-strings -fno-common -fno-strict-aliasing)

add_library(ccn_flags INTERFACE)
target_link_libraries(ccn_flags INTERFACE ccn_plain)

if(CCN_SANITIZE)
  target_compile_options(ccn_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(ccn_flags INTERFACE -fsanitize=address,undefined)
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    # the trap library of the simulated node is preloaded: the runtime must not insist on being first
    target_link_options(ccn_flags INTERFACE -static-libasan -static-libubsan)
  endif()
endif()

if(CCN_FUZZ)
  # the libraries too: without it libFuzzer sees no coverage and refuses to start
  target_compile_options(ccn_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(CCN_HARDEN)
  target_compile_options(ccn_flags INTERFACE -fPIE -fstack-protector-strong -fstack-clash-protection
    -fcf-protection=full -D_FORTIFY_SOURCE=2 -ftrivial-auto-var-init=zero)
  target_link_options(ccn_flags INTERFACE -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code
    -Wl,--as-needed)
endif()

set(CCN_TEST_ENV
  "ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1:allow_user_segv_handler=1"
  "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1"
  "CCNODE_SOURCE=${CMAKE_SOURCE_DIR}"
  "CCNODE_BUILD=${CMAKE_BINARY_DIR}")

function(ccn_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE ${T_LIBS} ccn_base cmocka)
  add_test(NAME unit/${name} COMMAND ${name})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  set_tests_properties(unit/${name} PROPERTIES LABELS unit TIMEOUT ${T_TIMEOUT}
    SKIP_RETURN_CODE 77 ENVIRONMENT "${CCN_TEST_ENV}")
endfunction()

function(ccn_fuzz name)
  cmake_parse_arguments(F "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name}_replay ${F_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.c)
  target_link_libraries(${name}_replay PRIVATE ${F_LIBS} ccn_base)
  add_test(NAME replay/${name}
    COMMAND ${name}_replay ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  set_tests_properties(replay/${name} PROPERTIES LABELS replay TIMEOUT 300 ENVIRONMENT "${CCN_TEST_ENV}")
  if(CCN_FUZZ)
    add_executable(${name} ${F_SOURCES})
    target_link_libraries(${name} PRIVATE ${F_LIBS} ccn_base -fsanitize=fuzzer)
    add_test(NAME fuzz/${name} COMMAND ${CMAKE_SOURCE_DIR}/tests/fuzz/run $<TARGET_FILE:${name}>)
    set_tests_properties(fuzz/${name} PROPERTIES LABELS fuzz TIMEOUT 3600 ENVIRONMENT "${CCN_TEST_ENV}")
  endif()
endfunction()

function(ccn_functional name)
  cmake_parse_arguments(T "" "TIMEOUT;COST;LABEL" "COMMAND" ${ARGN})
  if(NOT T_LABEL)
    set(T_LABEL functional)
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 600) # a hang, not slowness: two processors may carry twenty times their load
  endif()
  add_test(NAME ${T_LABEL}/${name} COMMAND ${T_COMMAND})
  set_tests_properties(${T_LABEL}/${name} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT}
    SKIP_RETURN_CODE 77 ENVIRONMENT "${CCN_TEST_ENV}")
  if(T_COST) # the seconds it takes: the long ones start first, also when none has been measured yet
    set_tests_properties(${T_LABEL}/${name} PROPERTIES COST ${T_COST})
  endif()
endfunction()

# generated code: without our warnings
function(ccn_proto target proto)
  get_filename_component(name ${proto} NAME_WE)
  set(dir ${CMAKE_CURRENT_BINARY_DIR}/${target})
  file(MAKE_DIRECTORY ${dir})
  add_custom_command(OUTPUT ${dir}/${name}.pb-c.c ${dir}/${name}.pb-c.h
    COMMAND protoc-c --c_out=${dir} --proto_path=${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${proto}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto} VERBATIM)
  add_library(${target} STATIC ${dir}/${name}.pb-c.c ${dir}/${name}.pb-c.h)
  target_include_directories(${target} SYSTEM PUBLIC ${dir})
  target_link_libraries(${target} PUBLIC PkgConfig::PROTOBUFC)
endfunction()
