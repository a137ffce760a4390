// The least that can time a library: a clock, a loop, one call. Built by fidelity.py, held against the
// product's loop.

#include <chrono>
#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>

namespace {

template <typename Call>
void time_each(Call&& call, std::int64_t samples, std::int64_t executions, double* times) {
  call();  // touches a fresh scratchpad
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    const auto start = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < executions; ++i) call();
    const auto stop = std::chrono::steady_clock::now();
    times[sample] = std::chrono::duration<double>(stop - start).count() / static_cast<double>(executions);
  }
}

void time_primitive(const dnnl::primitive& primitive, const dnnl::stream& stream, const dnnl::memory& source,
                    const dnnl::memory& weights, const dnnl::memory& destination,
                    const dnnl::memory& scratchpad, std::int64_t samples, std::int64_t executions,
                    double* times) {
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, source.get()},
                                       {DNNL_ARG_WEIGHTS, weights.get()},
                                       {DNNL_ARG_DST, destination.get()},
                                       {DNNL_ARG_SCRATCHPAD, scratchpad.get()}};
  time_each(
      [&] {
        dnnl_primitive_execute(primitive.get(), stream.get(), 4, arguments);
        dnnl_stream_wait(stream.get());
      },
      samples, executions, times);
}

}  // namespace

extern "C" {

using Sgemm = void(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*,
                   int);

void bare_openblas(void* sgemm, int m, int n, int k, const float* a, const float* b, float* c,
                   std::int64_t samples, std::int64_t executions, double* times) {
  auto* call = reinterpret_cast<Sgemm*>(sgemm);
  time_each([=] { call(102, 111, 111, m, n, k, 1.0F, a, m, b, k, 0.0F, c, m); }, samples, executions, times);
}

void bare_onednn(int m, int n, int k, float* a, float* b, float* c, std::int64_t samples,
                 std::int64_t executions, double* times) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc left({n, k}, memory::data_type::f32, memory::dims{k, 1});
  const memory::desc right({k, m}, memory::data_type::f32, memory::dims{m, 1});
  const memory::desc result({n, m}, memory::data_type::f32, memory::dims{m, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::matmul::primitive_desc description(engine, left, right, result, attributes);
  const dnnl::matmul matmul(description);
  const memory scratchpad(description.scratchpad_desc(), engine);
  const memory source(left, engine, b), weights(right, engine, a), destination(result, engine, c);
  time_primitive(matmul, stream, source, weights, destination, scratchpad, samples, executions, times);
}

void bare_convolution(int n, int c, int size, int k, int filter, float* x, float* w, float* y,
                      std::int64_t samples, std::int64_t executions, double* times) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const int pad = filter / 2;
  const memory::desc image({n, c, size, size}, memory::data_type::f32, memory::format_tag::nchw);
  const memory::desc plain({k, c, filter, filter}, memory::data_type::f32, memory::format_tag::oihw);
  const memory::desc any({k, c, filter, filter}, memory::data_type::f32, memory::format_tag::any);
  const memory::desc result({n, k, size, size}, memory::data_type::f32, memory::format_tag::nchw);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::convolution_forward::primitive_desc description(
      engine, dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, image, any, result,
      {1, 1}, {0, 0}, {pad, pad}, {pad, pad}, attributes);
  const dnnl::convolution_forward convolution(description);
  const memory source(image, engine, x), destination(result, engine, y);
  memory given(plain, engine, w), weights(description.weights_desc(), engine);
  dnnl::reorder(given, weights).execute(stream, given, weights);
  stream.wait();
  const memory scratchpad(description.scratchpad_desc(), engine);
  time_primitive(convolution, stream, source, weights, destination, scratchpad, samples, executions, times);
}
}
