# The collectives, built without any MPI: one module for every MPI library, whose functions it gets at run time. NCCL is
# in it where the CUDA module is built; of CUDA it needs the runtime alone.
file(GLOB mpi_harnesses CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} kernels/allreduce/*.cpp)
if(TARGET _cuda)
  list(APPEND mpi_harnesses kernels/common/cuda/nccl.cpp)
else()
  list(FILTER mpi_harnesses EXCLUDE REGEX "/nccl[^/]*$")
endif()
pybind11_add_module(_mpi MODULE
  kernels/common/mpi_module.cpp kernels/common/mpi.cpp kernels/common/synchronised.cpp ${mpi_harnesses})
target_link_libraries(_mpi PRIVATE microbench_options)
if(TARGET _cuda)
  target_compile_definitions(_mpi PRIVATE MICROBENCH_WITH_NCCL)
endif()
if(MICROBENCH_FAKE_CUDA)
  target_sources(_mpi PRIVATE tests/fake_cuda/runtime.cpp)
  target_include_directories(_mpi SYSTEM PRIVATE ${MICROBENCH_CUDART_INCLUDE})
elseif(TARGET _cuda)
  # As CUDA, so that the runtime is found; without a .cu among the sources CMake does not link it by itself.
  set_target_properties(_mpi PROPERTIES LINKER_LANGUAGE CUDA)
  target_link_libraries(_mpi PRIVATE cudart_static rt)
  target_include_directories(_mpi SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
endif()
install(TARGETS _mpi LIBRARY DESTINATION microbench)
