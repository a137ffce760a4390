"""Collectives across MPI ranks: started by mpiexec or srun, measured by all ranks, recorded by a process apart."""
