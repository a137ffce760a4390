// GEMM through oneDNN's matmul. oneDNN is row-major: the column-major C = op(A) op(B) is computed as the
// row-major C' = op(B)' op(A)', which is the same memory.

#include <oneapi/dnnl/dnnl.hpp>

#include "common/half.hpp"
#include "common/onednn.hpp"
#include "common/registry.hpp"
#include "gemm/operands.hpp"

namespace microbench::gemm {
namespace {

using dnnl::memory;

struct Types {
  ElementType storage, output;
};

Types types_of(const std::string& precision) {
  if (precision == "fp32") return {ElementType::float32, ElementType::float32};
  if (precision == "bf16") return {ElementType::bfloat16, ElementType::bfloat16};
  if (precision == "fp16") return {ElementType::float16, ElementType::float16};
  if (precision == "int8") return {ElementType::int8, ElementType::int32};
  throw Unsupported("oneDNN has no " + precision + " matmul on CPUs");
}

memory::desc matrices(std::int64_t batch, std::int64_t rows, std::int64_t columns, ElementType type,
                      bool column_major) {
  const auto described = onednn::data_type(type);
  if (batch == 1) {
    return {{rows, columns}, described, column_major ? memory::dims{1, rows} : memory::dims{columns, 1}};
  }
  const std::int64_t size = rows * columns;
  return {{batch, rows, columns},
          described,
          column_major ? memory::dims{size, 1, rows} : memory::dims{size, columns, 1}};
}

dnnl::matmul::primitive_desc describe_matmul(const dnnl::engine& engine, const Request& request) {
  const Sizes sizes(request);
  const Types types = types_of(request.precision);
  return onednn::or_unsupported(request.precision + " matmul", [&] {
    return dnnl::matmul::primitive_desc(
        engine, matrices(sizes.batch, sizes.n, sizes.k, types.storage, sizes.b_transposed),
        matrices(sizes.batch, sizes.k, sizes.m, types.storage, sizes.a_transposed),
        matrices(sizes.batch, sizes.n, sizes.m, types.output, false), onednn::attributes());
  });
}

class OneDnnGemm final : public Harness {
 public:
  explicit OneDnnGemm(const Request& request)
      : sizes_(request),
        context_(request.threads),
        description_(onednn::choose([&] { return describe_matmul(context_.engine(), request); }, request)),
        operands_(sizes_, types_of(request.precision).storage, types_of(request.precision).output),
        scratchpad_(description_.scratchpad_desc().get_size()),
        primitive_(description_),
        execution_(context_, primitive_,
                   {{DNNL_ARG_SRC, description_.src_desc(), operands_.b.data()},
                    {DNNL_ARG_WEIGHTS, description_.weights_desc(), operands_.a.data()},
                    {DNNL_ARG_DST, description_.dst_desc(), operands_.c.data()},
                    {DNNL_ARG_SCRATCHPAD, description_.scratchpad_desc(), scratchpad_.data()}}) {}

  void launch() override { execution_.run(); }
  std::vector<Operand> operands() override { return operands_.list(); }
  std::string implementation() const override { return description_.impl_info_str(); }
  std::int64_t workspace_bytes() const override { return scratchpad_.bytes(); }

 private:
  Sizes sizes_;
  onednn::Context context_;
  dnnl::matmul::primitive_desc description_;
  Operands operands_;
  Memory scratchpad_;
  dnnl::matmul primitive_;
  onednn::Execution execution_;
};

std::unique_ptr<Harness> open(const Request& request) {
  if (request.precision == "fp16_in_fp32_math") return fp16_in_fp32_math(request, open);
  return std::make_unique<OneDnnGemm>(request);
}

std::vector<std::string> algorithms(const Request& request) {
  Request asked = request;
  if (asked.precision == "fp16_in_fp32_math") asked.precision = "fp32";
  const onednn::Context context(request.threads);
  return onednn::implementations([&] { return describe_matmul(context.engine(), asked); });
}

const Registration registration({"gemm", "onednn", open, algorithms, onednn::describe});

}  // namespace
}  // namespace microbench::gemm
