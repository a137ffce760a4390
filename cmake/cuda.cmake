# The CUDA module: compiled where there is nvcc and the headers of cuBLAS; the libraries themselves are found at run
# time, so that one build works with and without GPU, driver and libraries. What is left out is said here, and kept in
# the package for `microbench device`.
set(MICROBENCH_CUDA AUTO CACHE STRING "Build the CUDA module: AUTO, ON (fatal where something is missing) or OFF")
set(MICROBENCH_CUDA_INCLUDE "" CACHE STRING
  "Directories with the headers of cuBLAS and cuDNN, before those of the toolkit and of wheels")
if(DEFINED ENV{MICROBENCH_CUDA_INCLUDE})  # also where a build folder knows another one from before
  set(MICROBENCH_CUDA_INCLUDE "$ENV{MICROBENCH_CUDA_INCLUDE}" CACHE STRING "" FORCE)
endif()
if(NOT MICROBENCH_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "MICROBENCH_CUDA is ${MICROBENCH_CUDA}: it must be AUTO, ON or OFF")
endif()
if(NOT "$ENV{MICROBENCH_CUDA_TOOLCHAIN}" MATCHES "^(pypi13)?$")
  message(FATAL_ERROR "MICROBENCH_CUDA_TOOLCHAIN is $ENV{MICROBENCH_CUDA_TOOLCHAIN}: it must be pypi13, or not be set")
endif()
option(MICROBENCH_FAKE_CUDA "Build the module's host code against a fake device, for tests" OFF)

# Ends the search, and keeps the reason for `microbench device`.
macro(microbench_cuda_left_out part reason)
  if(MICROBENCH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "${part} was asked for: ${reason}")
  endif()
  message(STATUS "${part} is left out: ${reason}")
  string(APPEND cuda_left_out "${part} was left out when microbench was built: ${reason}\n")
endmacro()

set(cuda_left_out "")
set(cuda_from_wheels "CUDA and its libraries can come from wheels alone: MICROBENCH_CUDA_TOOLCHAIN=pypi13 pip install '.[cuda13]'")

# The directories of NVIDIA's wheels in the building environment: <site-packages>/nvidia.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import nvidia; print(';'.join(nvidia.__path__))"
  OUTPUT_VARIABLE cuda_wheels OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)

function(microbench_find_cuda_headers)
  set(suffixes "")
  foreach(wheels IN LISTS cuda_wheels)
    file(GLOB found LIST_DIRECTORIES true ${wheels}/*/include)
    list(APPEND suffixes ${found})
  endforeach()
  set(places ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} $ENV{CUDA_HOME}/include
    ${suffixes} /usr/local/cuda/include)
  foreach(library CUBLAS CUDNN CUDART)  # searched anew: what was looked for may have changed
    unset(MICROBENCH_${library}_INCLUDE CACHE)
  endforeach()
  find_path(MICROBENCH_CUBLAS_INCLUDE cublasLt.h HINTS ${MICROBENCH_CUDA_INCLUDE} PATHS ${places} NO_CMAKE_FIND_ROOT_PATH)
  find_path(MICROBENCH_CUDNN_INCLUDE cudnn.h HINTS ${MICROBENCH_CUDA_INCLUDE} PATHS ${places} NO_CMAKE_FIND_ROOT_PATH)
  find_path(MICROBENCH_CUDART_INCLUDE cuda_runtime_api.h HINTS ${MICROBENCH_CUDA_INCLUDE} PATHS ${places} NO_CMAKE_FIND_ROOT_PATH)
  # Copies of a library's own headers: they lie among the headers of another version of the CUDA runtime, which must
  # not mix with the compiler's.
  foreach(library cublas cudnn)
    string(TOUPPER ${library} upper)
    if(MICROBENCH_${upper}_INCLUDE)
      file(GLOB headers ${MICROBENCH_${upper}_INCLUDE}/${library}*.h)
      file(COPY ${headers} DESTINATION ${PROJECT_BINARY_DIR}/cuda_headers)
    endif()
  endforeach()
endfunction()

file(GLOB cuda_sources CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
  kernels/common/cuda/*.cpp kernels/*/cu*.cpp)
list(FILTER cuda_sources EXCLUDE REGEX "/nccl[^/]*$")  # part of the collectives: see mpi.cmake
file(GLOB cuda_kernels CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} kernels/common/cuda/*.cu kernels/*/*.cu)
set(cuda_common kernels/common/face.cpp kernels/common/registry.cpp)

function(microbench_cuda_options target)
  target_compile_definitions(${target} PRIVATE MICROBENCH_MODULE=${target})
  target_link_libraries(${target} PRIVATE microbench_options)
  target_include_directories(${target} SYSTEM PRIVATE ${PROJECT_BINARY_DIR}/cuda_headers)
  # cuDNN's classic convolution interface is deprecated, and measured all the same.
  target_compile_definitions(${target} PRIVATE NV_CUDNN_DISABLE_DEPRECATION CUDNN_WARN_DEPRECATED_IGNORED)
endfunction()

if(MICROBENCH_FAKE_CUDA)
  microbench_find_cuda_headers()
  foreach(header CUBLAS CUDNN CUDART)
    if(NOT MICROBENCH_${header}_INCLUDE)
      message(FATAL_ERROR "the fake device needs the headers of ${header}")
    endif()
  endforeach()
  file(GLOB fakes CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} tests/fake_cuda/*.cpp)
  set(fake_libraries ${fakes})
  list(FILTER fakes EXCLUDE REGEX "/lib[^/]*$")
  list(FILTER fake_libraries INCLUDE REGEX "/lib[^/]*$")
  pybind11_add_module(_cuda MODULE ${cuda_common} ${cuda_sources} ${fakes})
  microbench_cuda_options(_cuda)
  target_include_directories(_cuda SYSTEM PRIVATE ${MICROBENCH_CUDART_INCLUDE})
  # Stand-ins for NVIDIA's libraries: tests/fake_cuda/libcublasLt.cpp becomes libcublasLt.so.
  foreach(source IN LISTS fake_libraries)
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "^lib" "" name ${name})
    add_library(${name} MODULE ${source})
    target_link_libraries(${name} PRIVATE microbench_options)
    target_include_directories(${name} SYSTEM PRIVATE
      ${PROJECT_BINARY_DIR}/cuda_headers ${MICROBENCH_CUDART_INCLUDE})
  endforeach()
  return()
endif()

if(MICROBENCH_CUDA STREQUAL "OFF")
  set(cuda_left_out "the CUDA module was left out when microbench was built: MICROBENCH_CUDA was OFF\n")
else()
  # The compiler: one that was named, that of the wheels where these were asked for, or the system's. Named by the
  # environment, so that one that does not work is noticed by check_language and not by an error.
  if("$ENV{MICROBENCH_CUDA_TOOLCHAIN}" STREQUAL "pypi13")
    foreach(wheels IN LISTS cuda_wheels)
      if(EXISTS ${wheels}/cu13/bin/nvcc)
        set(ENV{CUDACXX} ${wheels}/cu13/bin/nvcc)
        # nvcc looks for libraries in lib64, the wheels put them into lib.
        set(ENV{CUDAFLAGS} "-L${wheels}/cu13/lib")
      endif()
    endforeach()
  elseif(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(MICROBENCH_NVCC nvcc PATHS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
    if(MICROBENCH_NVCC)
      set(ENV{CUDACXX} ${MICROBENCH_NVCC})
    endif()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    microbench_cuda_left_out("the CUDA module" "no nvcc that works was found. ${cuda_from_wheels}")
  else()
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      # Machine code for everything that this nvcc knows, and PTX for what comes after it.
      execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE codes)
      string(REGEX MATCHALL "sm_[0-9]+" codes "${codes}")
      list(SORT codes COMPARE NATURAL)
      set(CMAKE_CUDA_ARCHITECTURES "")
      foreach(code IN LISTS codes)
        string(REPLACE "sm_" "" number ${code})
        if(number GREATER_EQUAL 70)
          list(APPEND CMAKE_CUDA_ARCHITECTURES ${number}-real)
          if(number MATCHES "0$")  # others are variants, whose PTX would not serve what comes after
            set(newest ${number})
          endif()
        endif()
      endforeach()
      list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
    endif()
    enable_language(CUDA)
    microbench_find_cuda_headers()
    if(NOT MICROBENCH_CUBLAS_INCLUDE)
      microbench_cuda_left_out("the CUDA module"
        "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is here, but no cublasLt.h: install a CUDA toolkit with cuBLAS, or set MICROBENCH_CUDA_INCLUDE to where it lies. ${cuda_from_wheels}")
    else()
      if(NOT MICROBENCH_CUDNN_INCLUDE)
        microbench_cuda_left_out("cuDNN"
          "no cudnn.h: install cuDNN, or set MICROBENCH_CUDA_INCLUDE to where it lies. ${cuda_from_wheels}")
        list(FILTER cuda_sources EXCLUDE REGEX "/cudnn[^/]*$")
      endif()
      message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}; "
        "cuBLAS headers: ${MICROBENCH_CUBLAS_INCLUDE}, cuDNN headers: ${MICROBENCH_CUDNN_INCLUDE}")
      pybind11_add_module(_cuda MODULE ${cuda_common} ${cuda_sources} ${cuda_kernels})
      microbench_cuda_options(_cuda)
      target_compile_options(_cuda PRIVATE
        "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,${OpenMP_CXX_FLAGS}$<$<BOOL:${MICROBENCH_WERROR}>:;-Werror=all-warnings>>")
      target_compile_definitions(_cuda PRIVATE MICROBENCH_NVCC="${CMAKE_CUDA_COMPILER_VERSION}")
      target_include_directories(_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
      install(TARGETS _cuda LIBRARY DESTINATION microbench)
    endif()
  endif()
endif()

file(WRITE ${PROJECT_BINARY_DIR}/left_out.txt "${cuda_left_out}")
install(FILES ${PROJECT_BINARY_DIR}/left_out.txt DESTINATION microbench)
