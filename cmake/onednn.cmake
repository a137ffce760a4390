# oneDNN: a system's or a user's own through DNNL_DIR, otherwise the one of the onednn-cpu-gomp wheel, whose single
# library file is copied into the package (the wheel itself installs three copies of it).
if(MICROBENCH_ONEDNN STREQUAL "OFF")
  return()
endif()

set(onednn_from_wheel FALSE)
if(DEFINED ENV{DNNL_DIR})
  find_package(dnnl 3.1 CONFIG QUIET PATHS "$ENV{DNNL_DIR}" NO_DEFAULT_PATH)
elseif(NOT dnnl_DIR)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
      "from importlib.metadata import distribution as d; print(d('onednn-devel-cpu-gomp').locate_file('../../..').resolve())"
    OUTPUT_VARIABLE onednn_prefix OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE onednn_missing)
  if(onednn_missing EQUAL 0)
    find_package(dnnl 3.1 CONFIG QUIET PATHS ${onednn_prefix}/lib/cmake/dnnl NO_DEFAULT_PATH)
    set(onednn_from_wheel ${dnnl_FOUND})
  endif()
endif()
if(NOT dnnl_FOUND)
  find_package(dnnl 3.1 CONFIG QUIET)
endif()

if(NOT dnnl_FOUND)
  if(MICROBENCH_ONEDNN STREQUAL "ON")
    message(FATAL_ERROR "oneDNN was asked for and not found: install onednn-devel-cpu-gomp or set DNNL_DIR")
  endif()
  message(STATUS "oneDNN not found: its module is left out (install onednn-devel-cpu-gomp or set DNNL_DIR)")
  return()
endif()

message(STATUS "oneDNN ${dnnl_VERSION} at ${dnnl_DIR}")
microbench_module(_onednn kernels/common/onednn.cpp ${onednn_harnesses})
target_link_libraries(_onednn PRIVATE DNNL::dnnl)
if(onednn_from_wheel)
  set_target_properties(_onednn PROPERTIES INSTALL_RPATH "$ORIGIN")
  get_target_property(onednn_file DNNL::dnnl IMPORTED_LOCATION_RELEASE)
  get_filename_component(onednn_real ${onednn_file} REALPATH)
  install(FILES ${onednn_real} DESTINATION microbench RENAME libdnnl.so.3)
  install(FILES ${onednn_prefix}/share/doc/onednn/LICENSE DESTINATION microbench RENAME libdnnl.LICENSE)
else()
  set_target_properties(_onednn PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
endif()
