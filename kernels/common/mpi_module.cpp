// The Python face of the collectives. It is built without any MPI: Python passes the addresses of the
// functions of the library that mpi4py has loaded.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "allreduce/collective.hpp"
#include "common/error.hpp"
#include "common/synchronised.hpp"

namespace py = pybind11;

namespace microbench::mpi {

void bind_nccl(py::module_& module);

namespace {

ElementType element_type(const std::string& name) {
  for (const auto type : {ElementType::float64, ElementType::float32, ElementType::float16,
                          ElementType::bfloat16, ElementType::int32}) {
    if (name == name_of(type)) return type;
  }
  throw Unsupported("no collective of " + name);
}

std::unique_ptr<Measured> open_collective(const Communicator& communicator, std::string kernel,
                                          std::string library, std::string algorithm, const std::string& type,
                                          const std::string& op, std::int64_t elements, bool in_place,
                                          std::string form, int root, std::vector<int> nodes,
                                          Device* device) {
  return open({communicator, std::move(kernel), std::move(library), std::move(algorithm), element_type(type),
               operation(op), elements, in_place, std::move(form), root, std::move(nodes), device});
}

py::array_t<std::uint8_t> bytes_of(const py::object& self, Measured::Part part, const std::string& type) {
  return py::array_t<std::uint8_t>({part.elements * element_bytes(element_type(type))}, part.data, self);
}

py::array_t<double> to_array(const std::vector<double>& values) {
  return py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace
}  // namespace microbench::mpi

PYBIND11_MODULE(_mpi, module) {
  using namespace microbench;
  using namespace microbench::mpi;

  py::register_local_exception<Unsupported>(module, "Unsupported");

  py::class_<Library>(module, "Library")
      .def(py::init<const std::map<std::string, std::uintptr_t>&, std::map<std::string, Handle>,
                    std::uintptr_t>(),
           py::arg("addresses"), py::arg("handles"), py::arg("in_place"));

  py::class_<Communicator>(module, "Communicator")
      .def(py::init([](const Library& library, Handle handle, int rank, int size) {
             return Communicator{&library, handle, rank, size};
           }),
           py::arg("library"), py::arg("handle"), py::arg("rank"), py::arg("size"), py::keep_alive<1, 2>());

  py::class_<RankClock>(module, "RankClock")
      .def(py::init<std::int64_t>(), py::arg("base_ns"))
      .def_static("now_ns", &RankClock::now_ns)
      .def("now", &RankClock::now)
      .def("align", &RankClock::align, py::arg("offset_s"), py::arg("drift"), py::arg("reference_s"))
      .def("to_common", &RankClock::to_common)
      .def("to_local", &RankClock::to_local);

  py::class_<Start>(module, "Start")
      .def(py::init([](bool window, double slack_s, bool yielding, std::int64_t compute) {
             return Start{window, slack_s, yielding, compute};
           }),
           py::kw_only(), py::arg("window"), py::arg("slack_s"), py::arg("yielding"),
           py::arg("compute") = -1);

  py::class_<Device>(module, "Device");

  py::class_<Collective>(module, "Executable")
      .def(
          "measure",
          [](Collective& collective, const Communicator& communicator, const RankClock& clock,
             std::int64_t repetitions, const Start& start) {
            Repetitions seen;
            {
              const py::gil_scoped_release release;
              seen = measure(collective, communicator, clock, repetitions, start);
            }
            return py::make_tuple(to_array(seen.target), to_array(seen.start), to_array(seen.end));
          },
          py::arg("communicator"), py::arg("clock"), py::arg("repetitions"), py::arg("start"));

  py::class_<Measured, Collective>(module, "Collective")
      .def(py::init(&open_collective), py::arg("communicator"), py::kw_only(), py::arg("kernel"),
           py::arg("library"), py::arg("algorithm"), py::arg("type"), py::arg("op"), py::arg("elements"),
           py::arg("in_place"), py::arg("form"), py::arg("root"), py::arg("nodes"), py::arg("device"),
           py::keep_alive<1, 2>(), py::keep_alive<1, 13>())
      .def_property_readonly("implementation", &Measured::implementation)
      .def_property_readonly("workspace_bytes", &Measured::workspace_bytes)
      .def("input",
           [](const py::object& self, const std::string& type) {
             return bytes_of(self, self.cast<Measured&>().input(), type);
           })
      .def("output",
           [](const py::object& self, const std::string& type) {
             return bytes_of(self, self.cast<Measured&>().output(), type);
           })
      .def("upload", &Measured::upload, py::call_guard<py::gil_scoped_release>())
      .def("download", &Measured::download, py::call_guard<py::gil_scoped_release>())
      .def("launch", &Measured::launch, py::call_guard<py::gil_scoped_release>());

  module.def(
      "estimate_offsets",
      [](const Communicator& communicator, const RankClock& clock, int rounds) {
        std::vector<Exchange> found;
        {
          const py::gil_scoped_release release;
          found = estimate_offsets(communicator, clock, rounds);
        }
        py::list exchanges;
        for (const Exchange& each : found) {
          exchanges.append(py::make_tuple(each.local_s, each.offset_s, each.round_trip_s));
        }
        return exchanges;
      },
      py::arg("communicator"), py::arg("clock"), py::arg("rounds"));
  module.def("time_computing", &time_computing, py::call_guard<py::gil_scoped_release>());
  module.def("lossless_algorithms", &lossless_algorithms);
  module.def("lossy_algorithms", &lossy_algorithms);

  std::vector<std::pair<std::string, std::string>> registered;
#ifdef MICROBENCH_WITH_NCCL
  bind_nccl(module);
  for (const char* kernel : {"allreduce", "reduce_scatter", "allgather", "broadcast", "alltoall"}) {
    registered.emplace_back(kernel, "nccl");
  }
#endif
  module.def("registered", [registered] { return registered; });
}
