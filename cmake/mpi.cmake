# The collectives, built without any MPI: one module for every MPI library, whose functions it gets at run time.
file(GLOB mpi_harnesses CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} kernels/allreduce/*.cpp)
pybind11_add_module(_mpi MODULE
  kernels/common/mpi_module.cpp kernels/common/mpi.cpp kernels/common/synchronised.cpp ${mpi_harnesses})
target_link_libraries(_mpi PRIVATE microbench_options)
install(TARGETS _mpi LIBRARY DESTINATION microbench)
