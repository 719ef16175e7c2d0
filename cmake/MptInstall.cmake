# Headers, shared library, pkg-config file, CMake package and licence. The installed tree may be moved as a whole.
include(CMakePackageConfigHelpers)

install(TARGETS mpt EXPORT mptTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT mpt NAMELINK_COMPONENT mpt_dev)
install(FILES ${PROJECT_SOURCE_DIR}/include/mpt.h ${PROJECT_SOURCE_DIR}/include/mpt_cuda.h
  ${PROJECT_SOURCE_DIR}/include/mpt.hpp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT mpt_dev)
if(MPT_HAVE_CUDA)
  install(TARGETS mpt_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT mpt_cuda NAMELINK_SKIP)
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT mpt)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mpt)
install(EXPORT mptTargets NAMESPACE mpt:: DESTINATION ${package_dir} COMPONENT mpt_dev)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mptConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/mptConfig.cmake ${PROJECT_BINARY_DIR}/mptConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT mpt_dev)

# pkg-config knows the folder of mpt.pc as ${pcfiledir}; the prefix is given relative to it.
file(RELATIVE_PATH prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
cmake_path(SET prefix_from_pc NORMALIZE "${prefix_from_pc}/.")
string(REGEX REPLACE "/\\.?$" "" prefix_from_pc "${prefix_from_pc}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/mpt.pc.in ${PROJECT_BINARY_DIR}/mpt.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mpt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT mpt_dev)
