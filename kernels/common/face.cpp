#include "common/face.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/callable.hpp"
#include "common/error.hpp"
#include "common/measure.hpp"
#include "common/registry.hpp"

namespace py = pybind11;

namespace microbench {
namespace {

// A harness with its operands looked up, as Python holds it.
class Session {
 public:
  explicit Session(const Request& request)
      : harness_(find(request.kernel, request.library).open(request)), loop_(*harness_) {}

  explicit Session(std::unique_ptr<Harness> harness) : harness_(std::move(harness)), loop_(*harness_) {}

  Harness& harness() { return *harness_; }
  Loop& loop() { return loop_; }

  void prepare() {
    loop_.inputs_change();
    harness_->prepare();
  }

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
  Loop loop_;
};

// A kernel written in Python. `specs`: name, element type, elements, whether it is an output. `open` gets the
// operands' addresses by name and returns what executes the kernel once: a callable that is given the stream,
// or the address of a C function of that signature, which is called without the interpreter.
std::unique_ptr<Session> plug_in(
    const std::vector<std::tuple<std::string, std::string, std::int64_t, bool>>& specs,
    const py::function& open) {
  std::vector<OperandSpec> operands;
  for (const auto& [name, type, elements, is_output] : specs) {
    operands.push_back({name, element_type(type), elements, is_output});
  }
  return std::make_unique<Session>(
      callable_harness(operands, [&open](const std::vector<OperandAddress>& addresses) -> Launch {
        py::dict by_name;
        for (const OperandAddress& each : addresses) by_name[py::str(each.name)] = each.address;
        const py::object launch = open(by_name);
        if (py::isinstance<py::int_>(launch)) {
          return reinterpret_cast<void (*)(std::uintptr_t)>(launch.cast<std::uintptr_t>());
        }
        return [launch](std::uintptr_t stream) {
          const py::gil_scoped_acquire interpreter;
          launch(stream);
        };
      }));
}

py::array_t<double> to_array(const std::vector<double>& values) {
  return py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace

void bind(py::module_& module) {
  // Local, because a process may load several of these modules: each raises its own.
  py::register_local_exception<Unsupported>(module, "Unsupported");
  // Python's has what is needed, in bytes, as its second argument.
  static const py::exception<WorkspaceExceeded> exceeded(module, "WorkspaceExceeded");
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const WorkspaceExceeded& error) {
      PyErr_SetObject(exceeded.ptr(), py::make_tuple(error.what(), error.needed()).ptr());
    }
  });

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
      .def("prepare", &Session::prepare, py::call_guard<py::gil_scoped_release>())
      .def(
          "collect", [](Session& self) { self.harness().collect(); },
          py::call_guard<py::gil_scoped_release>())
      .def(
          "capture", [](Session& self) { self.loop().capture(); }, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("doubts", [](Session& self) { return self.loop().doubts(); })
      .def_property_readonly("facts", [](Session& self) { return self.loop().facts(); })
      .def(
          "measure",
          [](Session& self, std::int64_t samples, std::int64_t executions, CacheFlusher* flusher) {
            std::vector<double> times;
            {
              py::gil_scoped_release release;
              times = self.loop().measure(samples, executions, flusher);
            }
            return to_array(times);
          },
          py::arg("samples"), py::arg("executions") = 1, py::arg("flusher") = nullptr);

  module.def("plug_in", &plug_in, py::arg("operands"), py::arg("open"));
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

}  // namespace microbench
