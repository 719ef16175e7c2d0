# Settings that hold for every target.
set(CMAKE_C_STANDARD 99)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# An installed library looks for oneTBB where it was found, unless the dynamic linker searches there anyway.
if(NOT DEFINED CMAKE_INSTALL_RPATH_USE_LINK_PATH)
  set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
endif()

find_program(MPT_CCACHE ccache)
mark_as_advanced(MPT_CCACHE)
if(MPT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${MPT_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MPT_CCACHE})
endif()

add_library(mpt_flags INTERFACE)
target_compile_options(mpt_flags INTERFACE
  -Wall -Wextra
  # Sums are the same on every machine only if the compiler fuses nothing on its own.
  -ffp-contract=off
  # Messages, debug information and archives are the same wherever the checkout lies.
  -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=
  -ffile-prefix-map=${PROJECT_BINARY_DIR}=build)
# GCC 12 sees overlaps where strings are joined (its bug 105329).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(mpt_flags INTERFACE -Wno-restrict)
endif()
if(MPT_WERROR)
  target_compile_options(mpt_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>)
endif()

if(MPT_SANITIZE)
  target_compile_options(mpt_flags INTERFACE
    -fsanitize=${MPT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(mpt_flags INTERFACE -fsanitize=${MPT_SANITIZE})
endif()
