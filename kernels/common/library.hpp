#pragma once

#include <dlfcn.h>

#include <string>

#include "common/error.hpp"

namespace microbench {

// A shared object loaded at run time. Never unloaded: its threads may still run when the last harness goes.
class Library {
 public:
  explicit Library(const std::string& path) : handle_(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) {
      const char* why = ::dlerror();
      throw Unsupported("cannot load " + path + ": " + (why != nullptr ? why : "unknown error"));
    }
  }

  // Null where the library lacks the symbol.
  template <typename Function>
  Function* symbol(const std::string& name) const {
    return reinterpret_cast<Function*>(::dlsym(handle_, name.c_str()));
  }

 private:
  void* handle_;
};

// The file that holds `address`.
inline std::string path_of(const void* address) {
  Dl_info info{};
  return ::dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

}  // namespace microbench
