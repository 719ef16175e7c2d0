# libmpt: every object file is compiled once and goes both into the shared library, which exports the functions of mpt.h
# alone, and into mpt_static, by which the tests reach the inside.

file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.cpp)
file(GLOB isa_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cpu/isa/*.cpp)
if(isa_sources)
  list(REMOVE_ITEM sources ${isa_sources})
endif()
# The CUDA backend is a library of its own: MptCuda.cmake.
list(FILTER sources EXCLUDE REGEX "/src/backend/cuda/")

# The types that the ABI check reads are those of src/api; for the rest, line numbers do and compile faster.
set(line_numbers_only $<$<CONFIG:RelWithDebInfo>:-g1>)
file(GLOB_RECURSE inner_sources ${PROJECT_SOURCE_DIR}/src/*.cpp)
list(FILTER inner_sources EXCLUDE REGEX "/src/api/")
set_source_files_properties(${inner_sources} PROPERTIES COMPILE_OPTIONS "${line_numbers_only}")

# What any code of the library needs to be compiled.
add_library(mpt_internal INTERFACE)
target_include_directories(mpt_internal INTERFACE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
target_link_libraries(mpt_internal INTERFACE mpt_flags Threads::Threads TBB::tbb nlohmann_json::nlohmann_json)

if(MPT_SANITIZE MATCHES "thread") # the file itself says why
  set_source_files_properties(${PROJECT_SOURCE_DIR}/src/backend/cpu/parallel.cpp PROPERTIES
    COMPILE_OPTIONS -fno-sanitize=thread COMPILE_DEFINITIONS MPT_THREAD_SANITIZER)
endif()
add_library(mpt_objects OBJECT ${sources})
target_link_libraries(mpt_objects PRIVATE mpt_internal)
target_compile_definitions(mpt_objects PRIVATE MPT_BUILD)

# The vector loops are compiled once for each instruction set level, each copy in a namespace of its own; the CPU backend
# picks one when a context is made.
set(isa_levels portable)
set(isa_flags_portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
  list(APPEND isa_levels avx2 avx512)
  set(isa_flags_avx2 -mavx2 -mfma -mf16c)
  set(isa_flags_avx512
    -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512)
endif()
set(object_libraries mpt_objects)
set(isa_common_flags -fno-math-errno -fno-trapping-math -fopenmp-simd)
if(NOT MPT_SANITIZE)
  list(APPEND isa_common_flags -O3)
endif()
if(isa_sources)
  foreach(level IN LISTS isa_levels)
    add_library(mpt_isa_${level} OBJECT ${isa_sources})
    target_link_libraries(mpt_isa_${level} PRIVATE mpt_internal)
    target_compile_definitions(mpt_isa_${level} PRIVATE MPT_BUILD MPT_ISA=${level})
    target_compile_options(mpt_isa_${level} PRIVATE ${isa_common_flags} ${isa_flags_${level}})
    list(APPEND object_libraries mpt_isa_${level})
  endforeach()
endif()
list(TRANSFORM object_libraries REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)

add_library(mpt_static STATIC ${objects})
set_target_properties(mpt_static PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(mpt_static PUBLIC mpt_internal)

# Before 1.0 a new minor version may break the ABI, so it is part of the soname.
set(soversion ${PROJECT_VERSION_MAJOR})
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(soversion 0.${PROJECT_VERSION_MINOR})
endif()

list(JOIN MPT_EXPORTS ";\n    " exports)
configure_file(${PROJECT_SOURCE_DIR}/cmake/mpt.map.in ${PROJECT_BINARY_DIR}/mpt.map @ONLY)

add_library(mpt SHARED ${objects})
add_library(mpt::mpt ALIAS mpt)
target_include_directories(mpt INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(mpt PRIVATE $<BUILD_INTERFACE:mpt_internal>)
target_link_options(mpt PRIVATE
  -Wl,--version-script=${PROJECT_BINARY_DIR}/mpt.map -Wl,--exclude-libs,ALL -Wl,--as-needed
  # oneTBB's workers may sleep in its code after the last context: dlclose must not take that code away.
  -Wl,-z,nodelete)
if(NOT MPT_SANITIZE)
  target_link_options(mpt PRIVATE -Wl,--no-undefined)
endif()
set_target_properties(mpt PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${soversion} LINKER_LANGUAGE CXX
  LINK_DEPENDS ${PROJECT_BINARY_DIR}/mpt.map)
