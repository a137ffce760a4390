#include <cuda_runtime_api.h>
#include <pybind11/stl.h>

#include "common/cuda/properties.hpp"
#include "common/face.hpp"

namespace py = pybind11;

PYBIND11_MODULE(MICROBENCH_MODULE, module) {
  using namespace microbench;
  bind(module);
  module.attr("CUDA_MAJOR") = CUDART_VERSION / 1000;
  const py::call_guard<py::gil_scoped_release> released;
  module.def("missing_device", &cuda::missing_device, released);
  module.def("device_properties", &cuda::device_properties, released);
  module.def("sm_clock_hz", &cuda::sm_clock_hz, released);
  module.def("compute_rates", &cuda::compute_rates, py::arg("precision"), py::arg("repetitions"),
             py::arg("seconds_each"), released);
  module.def("memory_rates", &cuda::memory_rates, py::arg("kind"), py::arg("bytes"), py::arg("passes"),
             py::arg("repetitions"), released);
}
