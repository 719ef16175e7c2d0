# Reads include/mpt.h, the single source of the version, and with mpt_cuda.h of the list of exported functions.
# Sets MPT_HEADER_VERSION and MPT_EXPORTS.
set(MPT_HEADER ${CMAKE_CURRENT_LIST_DIR}/../include/mpt.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${MPT_HEADER})
file(READ ${MPT_HEADER} header)

set(MPT_HEADER_VERSION)
foreach(part MAJOR MINOR PATCH)
  if(NOT header MATCHES "#[ \t]*define[ \t]+MPT_VERSION_${part}[ \t]+([0-9]+)")
    message(FATAL_ERROR "include/mpt.h defines no MPT_VERSION_${part}")
  endif()
  list(APPEND MPT_HEADER_VERSION ${CMAKE_MATCH_1})
endforeach()
list(JOIN MPT_HEADER_VERSION "." MPT_HEADER_VERSION)

set(MPT_CUDA_HEADER ${CMAKE_CURRENT_LIST_DIR}/../include/mpt_cuda.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${MPT_CUDA_HEADER})
file(READ ${MPT_CUDA_HEADER} cuda_header)
string(APPEND header "${cuda_header}")

# Every declaration that starts with MPT_API exports one function. Comments go first, and with them the semicolons and
# brackets that would split a CMake list.
string(REGEX REPLACE "/\\*([^*]|\\*+[^*/])*\\*+/" "" header "${header}")
string(REGEX REPLACE "#[^\n]*" "" header "${header}")
string(REGEX REPLACE "[][;]" " " header "${header}")
string(REGEX MATCHALL "MPT_API[^()]*[ *\n]mpt_[a-z0-9_]+[ \n]*\\(" declarations "${header}")
set(MPT_EXPORTS)
foreach(declaration IN LISTS declarations)
  string(REGEX REPLACE ".*[ *\n](mpt_[a-z0-9_]+)[ \n]*\\($" "\\1" name "${declaration}")
  list(APPEND MPT_EXPORTS ${name})
endforeach()
list(REMOVE_DUPLICATES MPT_EXPORTS)
list(SORT MPT_EXPORTS)
unset(header)
