# find_package(mpt) gives the target mpt::mpt. Its own dependencies are private and need not be found here.
include(${CMAKE_CURRENT_LIST_DIR}/mptTargets.cmake)
