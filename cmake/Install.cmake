# What `cmake --install` puts where. All of it may be moved with --prefix or DESTDIR.
include(CMakePackageConfigHelpers)

set(plugin_dir ${CMAKE_INSTALL_LIBDIR}/warren/plugins)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/warren)

install(TARGETS warrend DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS warren DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ${WARREN_PLUGINS} LIBRARY DESTINATION ${plugin_dir})
install(DIRECTORY include/warren DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# What a plugin's build outside of this tree needs: pkg-config, or find_package(warren).
file(RELATIVE_PATH pc_to_prefix
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/warren.pc.in warren.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/warren.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

configure_package_config_file(cmake/warren-config.cmake.in warren-config.cmake
  INSTALL_DESTINATION ${package_dir}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR plugin_dir
  NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(warren-config-version.cmake
  COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
install(FILES
  ${PROJECT_BINARY_DIR}/warren-config.cmake ${PROJECT_BINARY_DIR}/warren-config-version.cmake
  DESTINATION ${package_dir})

# install_existing(DESTINATION file...): those of the files that the tree holds.
function(install_existing destination)
  foreach(file ${ARGN})
    if(EXISTS ${PROJECT_SOURCE_DIR}/${file})
      install(FILES ${file} DESTINATION ${destination})
    endif()
  endforeach()
endfunction()

install_existing(${CMAKE_INSTALL_DOCDIR} LICENSE README.md CHANGELOG.md)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs FILES_MATCHING PATTERN "*.md")
# Installed, the tutorial's configurations find their plugins by themselves.
file(GLOB tutorial CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/etc/tutorial/*.cfg)
foreach(file ${tutorial})
  get_filename_component(name ${file} NAME)
  file(READ ${file} text)
  string(REGEX REPLACE "  directory = [^\n]*\n" "" text "${text}")
  file(CONFIGURE OUTPUT tutorial/${name} CONTENT "${text}" @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/tutorial/${name}
    DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples/tutorial)
endforeach()
install_existing(${CMAKE_INSTALL_DOCDIR}/examples
  etc/warren.cfg etc/warren-minimal.cfg etc/quickstart.cfg)
install_existing(${CMAKE_INSTALL_DOCDIR}/examples/prometheus etc/prometheus/warren.rules.yml)
install_existing(${CMAKE_INSTALL_DOCDIR}/examples/grafana etc/grafana/warren.json)
install_existing(${CMAKE_INSTALL_MANDIR}/man1 docs/warren.1)
install_existing(${CMAKE_INSTALL_MANDIR}/man3 docs/warren_plugin.3)
install_existing(${CMAKE_INSTALL_MANDIR}/man5 docs/warren.cfg.5)
install_existing(${CMAKE_INSTALL_MANDIR}/man8 docs/warrend.8)
foreach(name print sleep upper digest exec)
  install_existing(${CMAKE_INSTALL_DOCDIR}/plugins plugins/${name}/${name}.md)
  install_existing(${CMAKE_INSTALL_DOCDIR}/examples plugins/${name}/${name}.cfg)
endforeach()

# systemd wants these below lib whatever the libdir is; the unit names warrend where it is installed.
if(EXISTS ${PROJECT_SOURCE_DIR}/etc/warrend.service)
  install(CODE "
    file(READ \"${PROJECT_SOURCE_DIR}/etc/warrend.service\" unit)
    string(REPLACE \"/usr/sbin/warrend\"
      \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/warrend\" unit \"\${unit}\")
    file(WRITE \"${PROJECT_BINARY_DIR}/warrend.service\" \"\${unit}\")
    file(INSTALL \"${PROJECT_BINARY_DIR}/warrend.service\"
      DESTINATION \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system\")")
endif()
if(EXISTS ${PROJECT_SOURCE_DIR}/etc/warren.sysusers)
  install(FILES etc/warren.sysusers DESTINATION lib/sysusers.d RENAME warren.conf)
endif()
if(EXISTS ${PROJECT_SOURCE_DIR}/etc/warren.tmpfiles)
  install(FILES etc/warren.tmpfiles DESTINATION lib/tmpfiles.d RENAME warren.conf)
endif()
