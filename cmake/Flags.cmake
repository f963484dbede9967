# What every target is compiled with: warnings, hardening, one sanitizer switch.
option(WARREN_STRICT "Warnings are errors" OFF)
option(WARREN_FUZZ "Fuzz targets run under libFuzzer (clang; see scripts/fuzz)" OFF)
set(WARREN_SANITIZER "" CACHE STRING "address,undefined or thread")
if(WARREN_FUZZ AND NOT CMAKE_C_COMPILER_ID MATCHES Clang)
  message(FATAL_ERROR "WARREN_FUZZ needs clang, whose libFuzzer it is: use the preset fuzz")
endif()
if(WARREN_FUZZ AND NOT WARREN_SANITIZER)
  set(WARREN_SANITIZER address,undefined)
endif()

add_library(warren_flags INTERFACE)
target_compile_definitions(warren_flags INTERFACE _GNU_SOURCE WARREN_VERSION="${PROJECT_VERSION}")
target_include_directories(warren_flags INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_compile_options(warren_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wformat=2 -Wconversion -Wstrict-prototypes
  -Wmissing-prototypes -Wwrite-strings -Wcast-qual -Wimplicit-fallthrough -Wundef -Wvla
  -fexceptions -fno-strict-overflow -fstack-protector-strong
  -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
target_link_options(warren_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
if(WARREN_STRICT)
  target_compile_options(warren_flags INTERFACE -Werror)
endif()
if(CMAKE_C_COMPILER_ID MATCHES Clang)
  target_compile_options(warren_flags INTERFACE -gdwarf-4) # valgrind 3.19 gives up at clang's DWARF 5
endif()
if(WARREN_SANITIZER)
  target_compile_options(warren_flags INTERFACE
    -fsanitize=${WARREN_SANITIZER} -fno-omit-frame-pointer -O1)
  target_link_options(warren_flags INTERFACE -fsanitize=${WARREN_SANITIZER})
  target_compile_definitions(warren_flags INTERFACE WARREN_SANITIZED=1)
  if(WARREN_SANITIZER MATCHES undefined)
    target_compile_options(warren_flags INTERFACE -fno-sanitize-recover=all)
  endif()
else()
  target_compile_options(warren_flags INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>)
endif()
if(WARREN_FUZZ)
  target_compile_options(warren_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
include(CheckCCompilerFlag)
foreach(flag -fstack-clash-protection -fcf-protection=full)
  string(MAKE_C_IDENTIFIER "HAVE${flag}" name)
  check_c_compiler_flag(${flag} ${name})
  if(${name})
    target_compile_options(warren_flags INTERFACE ${flag})
  endif()
endforeach()

# warren_plugin(NAME source... [LINK library...]): a module that the daemon opens with dlopen.
function(warren_plugin name)
  cmake_parse_arguments(P "" "" "LINK" ${ARGN})
  add_library(plugin_${name} MODULE ${P_UNPARSED_ARGUMENTS})
  set_target_properties(plugin_${name} PROPERTIES
    PREFIX "" OUTPUT_NAME ${name}
    LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/warren/plugins)
  target_link_libraries(plugin_${name} PRIVATE warren_flags ${P_LINK})
  if(NOT WARREN_SANITIZER)
    target_link_options(plugin_${name} PRIVATE -Wl,-z,defs)
  endif()
endfunction()
