# reclo_module(NAME DEPENDS <lower modules> LIBRARIES <external libraries> FOLDERS <folders below>)
# makes the static library reclo_NAME from this folder's *.cc (and its FOLDERS') and one test program from its
# *_test.cc. Floors are checked here: a module that names a sibling or a higher floor fails to
# configure.
set(RECLO_FLOOR_base 0)
set(RECLO_FLOOR_os 1)
set(RECLO_FLOOR_crypto 1)
set(RECLO_FLOOR_net 1)
set(RECLO_FLOOR_store 2)
set(RECLO_FLOOR_disk 2)
set(RECLO_FLOOR_cloud 2)
set(RECLO_FLOOR_repo 3)
set(RECLO_FLOOR_backup 4)
set(RECLO_FLOOR_image 4)
set(RECLO_FLOOR_recovery 5)
set(RECLO_FLOOR_cli 6)

function(reclo_module name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBRARIES;TEST_LIBRARIES;EXCLUDE;FOLDERS" ${ARGN})
  foreach(dep ${ARG_DEPENDS})
    if(NOT RECLO_FLOOR_${dep} LESS RECLO_FLOOR_${name})
      # os and crypto are shared by the other parts of floor 1 in one direction only:
      # net uses both, crypto uses os.
      if(NOT ("${name}:${dep}" STREQUAL "net:crypto" OR "${name}:${dep}" STREQUAL "net:os"
              OR "${name}:${dep}" STREQUAL "crypto:os"))
        message(FATAL_ERROR "module ${name} must not use ${dep}: it is not on a lower floor")
      endif()
    endif()
  endforeach()

  set(source_patterns ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(test_patterns ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  foreach(folder ${ARG_FOLDERS})
    list(APPEND source_patterns ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc)
    list(APPEND test_patterns ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cc)
  endforeach()
  file(GLOB sources CONFIGURE_DEPENDS ${source_patterns})
  file(GLOB tests CONFIGURE_DEPENDS ${test_patterns})
  if(tests)
    list(REMOVE_ITEM sources ${tests})
  endif()
  foreach(excluded ${ARG_EXCLUDE})
    list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${excluded})
  endforeach()

  add_library(reclo_${name} STATIC ${sources})
  target_include_directories(reclo_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  list(TRANSFORM ARG_DEPENDS PREPEND reclo_ OUTPUT_VARIABLE dep_targets)
  target_link_libraries(reclo_${name} PUBLIC ${dep_targets} ${ARG_LIBRARIES})

  if(RECLO_BUILD_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE reclo_${name} ${ARG_TEST_LIBRARIES}
                          GTest::gmock GTest::gtest GTest::gtest_main)
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 300)
  endif()
endfunction()
