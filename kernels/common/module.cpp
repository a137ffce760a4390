#include "common/face.hpp"

PYBIND11_MODULE(MICROBENCH_MODULE, module) { microbench::bind(module); }
