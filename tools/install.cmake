# make install: program, library, headers, pkg-config file, manual pages.
install(TARGETS fathom_bin RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS fathom LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/fathom DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
# Written at installation, when the prefix is known.
install(CODE "
  set(CMAKE_INSTALL_LIBDIR \"${CMAKE_INSTALL_LIBDIR}\")
  set(CMAKE_INSTALL_INCLUDEDIR \"${CMAKE_INSTALL_INCLUDEDIR}\")
  set(PROJECT_VERSION \"${PROJECT_VERSION}\")
  configure_file(\"${CMAKE_SOURCE_DIR}/tools/fathom.pc.in\" \"${CMAKE_BINARY_DIR}/fathom.pc\" @ONLY)
")
install(FILES ${CMAKE_BINARY_DIR}/fathom.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
# Manual pages are made from the same tables as --help.
install(CODE "
  file(MAKE_DIRECTORY \"${CMAKE_BINARY_DIR}/man\")
  execute_process(COMMAND sh \"${CMAKE_SOURCE_DIR}/tools/make-man.sh\" \"${CMAKE_BINARY_DIR}/fathom\" \"${CMAKE_BINARY_DIR}/man\" COMMAND_ERROR_IS_FATAL ANY)
")
install(DIRECTORY ${CMAKE_BINARY_DIR}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
