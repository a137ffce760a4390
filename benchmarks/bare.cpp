// The least that can time a library: a clock, a loop, one call. Built by fidelity.py, held against the
// product's loop.

#include <chrono>
#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

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

void time_primitive(const dnnl::primitive& primitive, const dnnl::stream& stream,
                    const std::vector<dnnl_exec_arg_t>& arguments, std::int64_t samples,
                    std::int64_t executions, double* times) {
  time_each(
      [&] {
        dnnl_primitive_execute(primitive.get(), stream.get(), static_cast<int>(arguments.size()),
                               arguments.data());
        dnnl_stream_wait(stream.get());
      },
      samples, executions, times);
}

// What the user gave, in the layout that the primitive asks for.
dnnl::memory packed(const dnnl::engine& engine, dnnl::stream& stream, const dnnl::memory::desc& plain,
                    const dnnl::memory::desc& wanted, void* data) {
  dnnl::memory given(plain, engine, data), result(wanted, engine);
  dnnl::reorder(given, result).execute(stream, given, result);
  stream.wait();
  return result;
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
  time_primitive(matmul, stream,
                 {{DNNL_ARG_SRC, source.get()},
                  {DNNL_ARG_WEIGHTS, weights.get()},
                  {DNNL_ARG_DST, destination.get()},
                  {DNNL_ARG_SCRATCHPAD, scratchpad.get()}},
                 samples, executions, times);
}

// Forward, or the gradient of the input: `from` and `to` are x and y, or dy and dx.
void bare_convolution(int n, int c, int size, int k, int filter, int backward, float* from, float* w,
                      float* to, std::int64_t samples, std::int64_t executions, double* times) {
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
  if (backward != 0) {
    const dnnl::convolution_backward_data::primitive_desc gradient(
        engine, dnnl::algorithm::convolution_direct, image, any, result, {1, 1}, {0, 0}, {pad, pad},
        {pad, pad}, description, attributes);
    const memory dy(result, engine, from), dx(image, engine, to), scratch(gradient.scratchpad_desc(), engine);
    const memory weights = packed(engine, stream, plain, gradient.weights_desc(), w);
    time_primitive(dnnl::convolution_backward_data(gradient), stream,
                   {{DNNL_ARG_DIFF_DST, dy.get()},
                    {DNNL_ARG_WEIGHTS, weights.get()},
                    {DNNL_ARG_DIFF_SRC, dx.get()},
                    {DNNL_ARG_SCRATCHPAD, scratch.get()}},
                   samples, executions, times);
    return;
  }
  const memory x(image, engine, from), y(result, engine, to), scratch(description.scratchpad_desc(), engine);
  const memory weights = packed(engine, stream, plain, description.weights_desc(), w);
  time_primitive(dnnl::convolution_forward(description), stream,
                 {{DNNL_ARG_SRC, x.get()},
                  {DNNL_ARG_WEIGHTS, weights.get()},
                  {DNNL_ARG_DST, y.get()},
                  {DNNL_ARG_SCRATCHPAD, scratch.get()}},
                 samples, executions, times);
}

// One layer of as many inputs as hidden units, in inference.
void bare_lstm(int hidden, int batch, int steps, float* x, float* h0, float* c0, float* w_input,
               float* w_recurrent, float* bias, float* y, float* hn, float* cn, std::int64_t samples,
               std::int64_t executions, double* times) {
  using dnnl::memory;
  using Tag = memory::format_tag;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto described = [](const memory::dims& dims, Tag tag) {
    return memory::desc(dims, memory::data_type::f32, tag);
  };
  const memory::dims weights{1, 1, hidden, 4, hidden};
  const memory::desc sequence = described({steps, batch, hidden}, Tag::tnc);
  const memory::desc state = described({1, 1, batch, hidden}, Tag::ldnc);
  const memory::desc plain = described(weights, Tag::ldigo), any = described(weights, Tag::any);
  const memory::desc biases = described({1, 1, 4, hidden}, Tag::ldgo);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::lstm_forward::primitive_desc description(
      engine, dnnl::prop_kind::forward_inference, dnnl::rnn_direction::unidirectional_left2right, sequence,
      state, state, any, any, biases, sequence, state, state, attributes);
  const memory from(sequence, engine, x), h(state, engine, h0), c(state, engine, c0), b(biases, engine, bias),
      to(sequence, engine, y), last_h(state, engine, hn), last_c(state, engine, cn),
      scratch(description.scratchpad_desc(), engine);
  const memory of_input = packed(engine, stream, plain, description.weights_layer_desc(), w_input);
  const memory of_state = packed(engine, stream, plain, description.weights_iter_desc(), w_recurrent);
  time_primitive(dnnl::lstm_forward(description), stream,
                 {{DNNL_ARG_SRC_LAYER, from.get()},
                  {DNNL_ARG_SRC_ITER, h.get()},
                  {DNNL_ARG_SRC_ITER_C, c.get()},
                  {DNNL_ARG_WEIGHTS_LAYER, of_input.get()},
                  {DNNL_ARG_WEIGHTS_ITER, of_state.get()},
                  {DNNL_ARG_BIAS, b.get()},
                  {DNNL_ARG_DST_LAYER, to.get()},
                  {DNNL_ARG_DST_ITER, last_h.get()},
                  {DNNL_ARG_DST_ITER_C, last_c.get()},
                  {DNNL_ARG_SCRATCHPAD, scratch.get()}},
                 samples, executions, times);
}
}
