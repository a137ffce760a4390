// The Python face of NCCL, part of the collectives' module where that is built with CUDA.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "allreduce/nccl.hpp"

namespace py = pybind11;

namespace microbench::mpi {

void bind_nccl(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> released;
  py::class_<Gpu, Device>(module, "Gpu")
      .def(py::init<int>(), py::arg("number"), released)
      .def_property_readonly("facts", &Gpu::facts)
      .def("connected", &Gpu::connected, py::arg("group"));
  py::class_<OfSeveralGpus, Collective>(module, "OfSeveralGpus")
      .def(py::init<std::vector<Measured*>>(), py::arg("parts"), py::keep_alive<1, 2>());
  module.def(
      "connect",
      [](const std::vector<Gpu*>& gpus, const std::string& group, const std::string& id, int ranks,
         int first_rank) {
        cuda::NcclId given{};
        if (id.size() != sizeof(given)) throw std::invalid_argument("an id has 128 bytes");
        std::memcpy(&given, id.data(), sizeof(given));
        connect(gpus, group, given, ranks, first_rank);
      },
      py::arg("gpus"), py::arg("group"), py::arg("id"), py::arg("ranks"), py::arg("first_rank"), released);
  module.def("nccl_id", [] {
    const cuda::NcclId id = cuda::unique_id();
    return py::bytes(id.bytes, sizeof(id));
  });
  module.def(
      "describe",
      [](const std::string&, const std::string&, const std::string& path) {
        return cuda::describe_nccl(path);
      },
      py::arg("kernel"), py::arg("library"), py::arg("path"));
}

}  // namespace microbench::mpi
