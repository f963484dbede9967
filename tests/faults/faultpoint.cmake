# The preloaded library of faultpoint.py. It stands in the place of malloc, so no sanitizer and no check of its own.
add_library(faultpoint MODULE faultpoint.c)
set_target_properties(faultpoint PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
target_compile_definitions(faultpoint PRIVATE _GNU_SOURCE)
target_compile_options(faultpoint PRIVATE -Wall -Wextra -fno-builtin -U_FORTIFY_SOURCE -O1)
target_link_libraries(faultpoint PRIVATE ${CMAKE_DL_LIBS} Threads::Threads)
