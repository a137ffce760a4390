/* A bare loop around MPI_Allreduce as the OSU micro-benchmarks have it: every call timed on every rank, a barrier
   after each. Compiled with the MPI library's own compiler by benchmarks/allreduce.py. */

#include <mpi.h>

void osu_loop(int fortran_communicator, const void *sent, void *received, int floats, int repetitions,
              double *seconds) {
  const MPI_Comm communicator = MPI_Comm_f2c(fortran_communicator);
  for (int i = 0; i < repetitions; ++i) {
    const double start = MPI_Wtime();
    MPI_Allreduce(sent, received, floats, MPI_FLOAT, MPI_SUM, communicator);
    seconds[i] = MPI_Wtime() - start;
    MPI_Barrier(communicator);
  }
}
