#pragma once

#include <string>

#include "common/library.hpp"

namespace microbench {

// An OpenBLAS found at run time. Its prefixed builds (every symbol starts with scipy_) and plain ones are
// both understood.
struct OpenBlas {
  Library library;
  std::string prefix;

  static constexpr int kRowMajor = 101;  // the values that the CBLAS standard gives its enumerations
  static constexpr int kColumnMajor = 102;
  static constexpr int kNoTranspose = 111;
  static constexpr int kTranspose = 112;

  template <typename T>
  using Gemm = void(int, int, int, int, int, int, T, const T*, int, const T*, int, T, T*, int);

  explicit OpenBlas(const std::string& path) : library(path) {
    for (const char* candidate : {"", "scipy_"}) {
      if (library.symbol<void()>(candidate + std::string("cblas_sgemm")) != nullptr) {
        prefix = candidate;
        return;
      }
    }
    throw Unsupported(path + " has no cblas_sgemm");
  }

  template <typename Function>
  Function* require(const std::string& name) const {
    if (auto* function = library.symbol<Function>(prefix + name)) return function;
    throw Unsupported("this OpenBLAS has no " + name);
  }

  void set_threads(int threads) const { require<void(int)>("openblas_set_num_threads")(threads); }
  std::string core() const { return require<char*()>("openblas_get_corename")(); }
  std::string version() const { return require<char*()>("openblas_get_config")(); }
  std::string path() const { return path_of(reinterpret_cast<const void*>(require<void()>("cblas_sgemm"))); }
};

}  // namespace microbench
