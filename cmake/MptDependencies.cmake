# What the library stands on. All of it is private: a program that links libmpt needs none of these.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(TBB REQUIRED)
find_package(nlohmann_json 3.9 REQUIRED)

# oneDNN is measured beside our own matrix multiply in bench/gemm.cpp; the library does not use it.
# A system oneDNN comes before the one that ./dev puts into the checkout's virtual environment.
set(MPT_HAVE_ONEDNN OFF)
if(MPT_ONEDNN)
  find_package(dnnl 3.2 CONFIG QUIET PATHS ${PROJECT_SOURCE_DIR}/.venv)
  if(dnnl_FOUND)
    set(MPT_HAVE_ONEDNN ON)
    message(STATUS "oneDNN ${dnnl_VERSION}: ${dnnl_DIR}")
  elseif(MPT_ONEDNN STREQUAL "AUTO")
    message(STATUS "oneDNN 3.2 or newer: not found, building without it")
  else()
    message(FATAL_ERROR "MPT_ONEDNN is ${MPT_ONEDNN}, but no oneDNN 3.2 or newer was found. "
      "Give its folder by -Ddnnl_DIR or CMAKE_PREFIX_PATH.")
  endif()
endif()
