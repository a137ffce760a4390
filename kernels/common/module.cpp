// The Python face of one extension module: compiled once into each, names no kernel and no library.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/error.hpp"
#include "common/measure.hpp"
#include "common/registry.hpp"

namespace py = pybind11;

namespace microbench {
namespace {

// A harness with its operands looked up, as Python holds it.
class Session {
 public:
  explicit Session(const Request& request) : harness_(find(request.kernel, request.library).open(request)) {}

  Harness& harness() { return *harness_; }

  Buffer& buffer(const std::string& name) {
    for (const Operand& operand : harness_->operands()) {
      if (operand.name == name) return *operand.buffer;
    }
    throw py::key_error("no operand '" + name + "'");
  }

  // Bytes of an operand as a writable array that shares its memory.
  static py::array memory(const py::object& self, const std::string& name) {
    Buffer& buffer = self.cast<Session&>().buffer(name);
    return py::array_t<std::uint8_t>({buffer.bytes()}, static_cast<std::uint8_t*>(buffer.data()), self);
  }

 private:
  std::unique_ptr<Harness> harness_;
};

py::array_t<double> to_array(const std::vector<double>& values) {
  return py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace
}  // namespace microbench

PYBIND11_MODULE(MICROBENCH_MODULE, module) {
  using namespace microbench;

  // Local, because a process may load several of these modules: each raises its own.
  py::register_local_exception<Unsupported>(module, "Unsupported");
  py::register_local_exception<WorkspaceExceeded>(module, "WorkspaceExceeded");

  py::class_<Request>(module, "Request", py::module_local())
      .def(py::init([](std::string kernel, std::string library, std::string library_path,
                       std::string algorithm, std::string precision, std::map<std::string, Value> problem,
                       int threads, std::int64_t workspace_limit) {
             return Request{std::move(kernel),
                            std::move(library),
                            std::move(library_path),
                            std::move(algorithm),
                            std::move(precision),
                            std::move(problem),
                            threads,
                            workspace_limit};
           }),
           py::kw_only(), py::arg("kernel"), py::arg("library"), py::arg("library_path"),
           py::arg("algorithm"), py::arg("precision"), py::arg("problem"), py::arg("threads"),
           py::arg("workspace_limit"));

  py::class_<CacheFlusher>(module, "CacheFlusher", py::module_local())
      .def(py::init<std::int64_t>(), py::arg("bytes"))
      .def_property_readonly("bytes", &CacheFlusher::bytes);

  py::class_<Session>(module, "Session", py::module_local())
      .def(py::init<const Request&>(), py::call_guard<py::gil_scoped_release>())
      .def("memory", &Session::memory, py::arg("name"))
      .def_property_readonly("operands",
                             [](Session& self) {
                               std::map<std::string, std::pair<std::string, bool>> all;
                               for (const Operand& operand : self.harness().operands()) {
                                 all[operand.name] = {name_of(operand.buffer->type()), operand.is_output};
                               }
                               return all;
                             })
      .def_property_readonly("implementation", [](Session& self) { return self.harness().implementation(); })
      .def_property_readonly("workspace_bytes",
                             [](Session& self) { return self.harness().workspace_bytes(); })
      .def(
          "prepare", [](Session& self) { self.harness().prepare(); },
          py::call_guard<py::gil_scoped_release>())
      .def(
          "measure",
          [](Session& self, std::int64_t samples, std::int64_t executions, CacheFlusher* flusher) {
            std::vector<double> times;
            {
              py::gil_scoped_release release;
              times = measure(self.harness(), samples, executions, flusher);
            }
            return to_array(times);
          },
          py::arg("samples"), py::arg("executions") = 1, py::arg("flusher") = nullptr);

  module.def("registered", [] {
    std::vector<std::pair<std::string, std::string>> names;
    for (const Entry& entry : registry()) names.emplace_back(entry.kernel, entry.library);
    return names;
  });
  module.def("algorithms", [](const Request& request) {
    return find(request.kernel, request.library).algorithms(request);
  });
  module.def("describe", [](const std::string& kernel, const std::string& library, const std::string& path) {
    return find(kernel, library).describe(path);
  });
  module.def("calibrate_timer", [] {
    const Timer timer = calibrate_timer();
    return std::pair(timer.resolution_s, timer.overhead_s);
  });
  module.def("build", [] {
    return std::map<std::string, std::string>{{"compiler", MICROBENCH_COMPILER}, {"flags", MICROBENCH_FLAGS}};
  });
}
