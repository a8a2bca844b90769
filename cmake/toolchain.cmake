# Compiler flags, sanitizers and build accelerators that hold for every target.
# Line tables are enough for profiles and backtraces; full debug information doubles the build time.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")

find_program(RECLO_CCACHE ccache)
if(RECLO_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${RECLO_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${RECLO_CCACHE})
endif()
find_program(RECLO_MOLD mold)
if(RECLO_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                    -Wnon-virtual-dtor -Woverloaded-virtual -Werror
                    $<$<COMPILE_LANGUAGE:C>:-Wno-error=pedantic>)
add_compile_options(-fstack-protector-strong -fno-omit-frame-pointer)
if(NOT RECLO_SANITIZE)
  add_compile_options($<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports these inside its own std::string and std::optional at -O2.
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized -Wno-stringop-overflow
                      -Wno-array-bounds)
endif()
if(RECLO_SANITIZE)
  add_compile_options(-fsanitize=${RECLO_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${RECLO_SANITIZE})
endif()
if(RECLO_BUILD_FUZZERS)
  # Everything is instrumented; fuzz/ adds libFuzzer's main(). Another compiler has other warnings:
  # they are errors in the builds of the compiler that the code is written for.
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -Wno-error)
  add_link_options(-fsanitize=address,undefined)
endif()
