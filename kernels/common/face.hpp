#pragma once

#include <pybind11/pybind11.h>

namespace microbench {

// What Python sees of every extension module: Request, Session, CacheFlusher, the registry. Names no kernel
// and no library.
void bind(pybind11::module_& module);

}  // namespace microbench
