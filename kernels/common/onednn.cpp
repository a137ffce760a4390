#include "common/onednn.hpp"

#include <omp.h>

#include "common/library.hpp"

namespace microbench::onednn {

namespace {
dnnl::engine engine_with_threads(int threads) {
  omp_set_num_threads(threads);
  return {dnnl::engine::kind::cpu, 0};
}
}  // namespace

Context::Context(int threads) : engine_(engine_with_threads(threads)), stream_(engine_) {}

dnnl::memory::data_type data_type(ElementType type) {
  switch (type) {
    case ElementType::float32:
      return dnnl::memory::data_type::f32;
    case ElementType::float16:
      return dnnl::memory::data_type::f16;
    case ElementType::bfloat16:
      return dnnl::memory::data_type::bf16;
    case ElementType::int8:
      return dnnl::memory::data_type::s8;
    case ElementType::int32:
      return dnnl::memory::data_type::s32;
    case ElementType::float64:
    case ElementType::float8_e4m3:
    case ElementType::float8_e5m2:
      break;
  }
  throw Unsupported(std::string("oneDNN has no ") + name_of(type) + " on CPUs");
}

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attr.set_fpmath_mode(dnnl::fpmath_mode::strict);
  return attr;
}

std::map<std::string, std::string> describe(const std::string&) {
  const dnnl_version_t& version = *dnnl_version();
  return {{"version", std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
                          std::to_string(version.patch)},
          {"commit", version.hash},
          {"path", path_of(reinterpret_cast<const void*>(&dnnl_version))}};
}

Execution::Execution(const Context& context, const dnnl::primitive& primitive,
                     const std::vector<Argument>& arguments)
    : stream_(context.stream()), primitive_(primitive) {
  memories_.reserve(arguments.size());
  for (const Argument& argument : arguments) {
    memories_.emplace_back(argument.description, context.engine(), argument.data);
    arguments_.push_back({argument.index, memories_.back().get()});
  }
}

void Execution::run() {
  dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive_.get(), stream_.get(),
                                                 static_cast<int>(arguments_.size()), arguments_.data()),
                          "oneDNN could not execute the primitive");
  stream_.wait();
}

}  // namespace microbench::onednn
