# The preloaded library of faultpoint.py. It stands in the place of malloc: no sanitizer, no hardening.
add_library(faultpoint MODULE faultpoint.c)
set_target_properties(faultpoint PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
target_compile_definitions(faultpoint PRIVATE _GNU_SOURCE)
target_compile_options(faultpoint PRIVATE -Wall -Wextra -fno-builtin -U_FORTIFY_SOURCE -O1)
target_link_libraries(faultpoint PRIVATE ${CMAKE_DL_LIBS} Threads::Threads)

# Row E9.
add_executable(torn torn.c)
target_include_directories(torn PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(torn PRIVATE warren_parts)

# E3 and E4 sample the calls that they let fail; this walks them all.
foreach(name E3 E4)
  fault_test(${name}.walk 3600 more run.py ${name})
  set_property(TEST faults.${name}.walk APPEND PROPERTY ENVIRONMENT WARREN_FAULTS_WALK=1)
  set_tests_properties(faults.${name}.walk PROPERTIES FIXTURES_REQUIRED faults_node)
endforeach()
