# libmpt_cuda: the CUDA backend, which libmpt loads when a CUDA context is asked for. It holds what it needs of the engine and
# exports one function.
#
# MPT_CUDA_SOURCES: the backend over plain interfaces to CUDA's libraries (src/backend/cuda/lib/*.h) and the kernels. The tests
# build the same files a second time with the host's compiler, over the emulation in src/backend/cuda/emu.
file(GLOB MPT_CUDA_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cuda/*.cpp)
file(GLOB MPT_CUDA_KERNELS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cu)
file(GLOB cuda_libraries CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cuda/lib/*.cpp)

set(MPT_HAVE_CUDA OFF)
if(MPT_CUDA AND NOT MPT_SANITIZE)
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # 90: machine code and PTX for newer devices
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit 13.0 QUIET)
  endif()
  if(CMAKE_CUDA_COMPILER AND CUDAToolkit_FOUND)
    set(MPT_HAVE_CUDA ON)
    message(STATUS "CUDA ${CUDAToolkit_VERSION}: ${CMAKE_CUDA_COMPILER}")
  elseif(MPT_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA 13.0 or newer: not found, building without it")
  else()
    message(FATAL_ERROR "MPT_CUDA is ${MPT_CUDA}, but no CUDA toolkit 13.0 or newer was found. Put nvcc on the path.")
  endif()
endif()
if(NOT MPT_HAVE_CUDA)
  return()
endif()

# cuDNN by its headers and the graph API's frontend, which is headers alone: from the system or from ./dev's environment. The
# library itself is looked for when the first plan is made; here only for the tests.
file(GLOB venv_includes ${PROJECT_SOURCE_DIR}/.venv/include ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/include)
find_path(MPT_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${venv_includes})
find_library(MPT_CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib)
find_path(MPT_CUDNN_FRONTEND cudnn_frontend.h HINTS ${venv_includes})

# CMake 3.25 does not know that nvcc compiles C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
# The files that know cuDNN, which the tests of its plans need without the rest.
set(cudnn_sources ${PROJECT_SOURCE_DIR}/src/backend/cuda/lib/dnn_cudnn.cpp ${PROJECT_SOURCE_DIR}/src/backend/cuda/lib/cudnn_library.cpp)
list(REMOVE_ITEM cuda_libraries ${cudnn_sources})
set(MPT_HAVE_CUDNN OFF)
add_library(mpt_cudnn OBJECT ${cudnn_sources})
target_compile_definitions(mpt_cudnn PRIVATE MPT_BUILD)
target_include_directories(mpt_cudnn PRIVATE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
target_include_directories(mpt_cudnn SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(mpt_cudnn PRIVATE mpt_internal)
if(MPT_CUDNN_INCLUDE AND MPT_CUDNN_FRONTEND)
  set(MPT_HAVE_CUDNN ON)
  target_compile_definitions(mpt_cudnn PRIVATE MPT_HAVE_CUDNN)
  target_include_directories(mpt_cudnn SYSTEM PRIVATE ${MPT_CUDNN_INCLUDE} ${MPT_CUDNN_FRONTEND})
else()
  message(STATUS "cuDNN 9's headers and its frontend: not found, attention uses the library's own kernels")
endif()

add_library(mpt_cuda SHARED ${MPT_CUDA_SOURCES} ${cuda_libraries} ${MPT_CUDA_KERNELS})
# No fused operations but those that are written: the same bits as on the host. What ptxas says of registers and spills is
# kept beside the objects; the test cuda.kernel_resources makes a table of it.
find_program(MPT_TOOL_PYTHON NAMES python3)
mark_as_advanced(MPT_TOOL_PYTHON)
if(MPT_TOOL_PYTHON)
  set_target_properties(mpt_cuda PROPERTIES
    CUDA_COMPILER_LAUNCHER "${MPT_TOOL_PYTHON};${PROJECT_SOURCE_DIR}/tools/kernel_resources.py;compile")
endif()
target_compile_options(mpt_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false -Xptxas=-v -Xcompiler=-Wall,-ffp-contract=off -diag-suppress=177>)
target_compile_definitions(mpt_cuda PRIVATE MPT_BUILD)
target_include_directories(mpt_cuda PRIVATE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
target_link_libraries(mpt_cuda PRIVATE
  mpt_static CUDA::cudart_static CUDA::cublasLt)
target_sources(mpt_cuda PRIVATE $<TARGET_OBJECTS:mpt_cudnn>)
target_link_libraries(mpt_cuda PRIVATE ${CMAKE_DL_LIBS})
target_link_options(mpt_cuda PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/mpt_cuda.map -Wl,--exclude-libs,ALL -Wl,--as-needed -Wl,--no-undefined)
set_target_properties(mpt_cuda PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${soversion} CUDA_VISIBILITY_PRESET hidden CUDA_RUNTIME_LIBRARY Static
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/mpt_cuda.map)
