# Slicer writes here the files by which other extensions find this one; nothing of that reaches the package.
foreach(key HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${key}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${key} is not set")
  endif()
  if("${EXTENSION_${key}}" MATCHES "[;\n]")
    message(FATAL_ERROR "EXTENSION_${key} holds a semicolon or a line end")
  endif()
endforeach()
