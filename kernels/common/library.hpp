#pragma once

#include <dlfcn.h>

#include <string>
#include <vector>

#include "common/error.hpp"

namespace microbench {

// The file that holds `address`.
inline std::string path_of(const void* address) {
  Dl_info info{};
  return ::dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

// A shared object loaded at run time. Never unloaded: its threads may still run when the last harness goes.
class Library {
 public:
  explicit Library(const std::string& path) : Library(std::vector<std::string>{path}) {}

  // The first of `paths` that can be loaded; throws Unsupported with every path tried and what was wrong with
  // it.
  explicit Library(const std::vector<std::string>& paths) {
    std::string tried;
    for (const std::string& path : paths) {
      handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle_ != nullptr) {
        path_ = path;
        return;
      }
      const char* why = ::dlerror();
      tried += (tried.empty() ? "" : "; ") + path + ": " + (why != nullptr ? why : "unknown error");
    }
    throw Unsupported("cannot load " + tried);
  }

  // Null where the library lacks the symbol.
  template <typename Function>
  Function* symbol(const std::string& name) const {
    return reinterpret_cast<Function*>(::dlsym(handle_, name.c_str()));
  }

  // Throws Unsupported where the library lacks the symbol.
  template <typename Function>
  Function* require(const std::string& name) const {
    if (auto* function = symbol<Function>(name)) return function;
    throw Unsupported(path_ + " has no " + name + ": it is another library, or too old a version");
  }

 private:
  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace microbench

// The address of `function` (a name that some header declares) in `library`, looked up once:
// MICROBENCH_SYMBOL(cudnn(), cudnnCreate)(&handle). `library` must be the same object at every call.
#define MICROBENCH_SYMBOL(library, function)                                         \
  ([] {                                                                              \
    static auto* const address = (library).require<decltype(::function)>(#function); \
    return address;                                                                  \
  }())
