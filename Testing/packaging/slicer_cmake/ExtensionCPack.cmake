# Writes the description file and the package, named as Slicer's factory names it.
# MultiOrganSeg_WC_REVISION, MultiOrganSeg_BUILDDATE: the commit and its date; taken from git in Slicer.
foreach(name README.md LICENSE)
  if(NOT EXISTS "${CMAKE_SOURCE_DIR}/${name}")
    message(FATAL_ERROR "${name} is missing")
  endif()
endforeach()

set(description
  "scm git\n"
  "scmrevision ${${PROJECT_NAME}_WC_REVISION}\n"
  "build_subdirectory .\n"
  "enabled 1\n")
foreach(key HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  string(TOLOWER "${key}" lower)
  list(APPEND description "${lower} ${EXTENSION_${key}}\n")
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/${PROJECT_NAME}.s4ext" ${description})
install(
  FILES "${CMAKE_BINARY_DIR}/${PROJECT_NAME}.s4ext"
  DESTINATION "${Slicer_INSTALL_ROOT}${Slicer_SHARE_DIR}"
  COMPONENT RuntimeLibraries)

set(CPACK_GENERATOR TGZ)
set(CPACK_MONOLITHIC_INSTALL ON)
set(CPACK_PACKAGE_DESCRIPTION_FILE "${CMAKE_SOURCE_DIR}/README.md")
set(CPACK_RESOURCE_FILE_LICENSE "${CMAKE_SOURCE_DIR}/LICENSE")
string(CONCAT CPACK_PACKAGE_FILE_NAME
  "${Slicer_REVISION}-${Slicer_OS}-${Slicer_ARCHITECTURE}-${PROJECT_NAME}"
  "-git${${PROJECT_NAME}_WC_REVISION}-${${PROJECT_NAME}_BUILDDATE}")
include(CPack)
