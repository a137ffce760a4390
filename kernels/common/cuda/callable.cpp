#include "common/callable.hpp"

#include "common/cuda/harness.hpp"

namespace microbench {
namespace {

class CallableHarness final : public cuda::CudaHarness {
 public:
  CallableHarness(const std::vector<OperandSpec>& specs, const Open& open) : specs_(specs) {
    std::vector<OperandAddress> addresses;
    for (const OperandSpec& spec : specs_) {
      buffers_.push_back(std::make_unique<cuda::Buffer>(spec.type, spec.elements));
      addresses.push_back(
          {spec.name, spec.type, spec.elements, reinterpret_cast<std::uintptr_t>(buffers_.back()->data())});
    }
    launch_ = open(addresses);
  }

  void enqueue(cudaStream_t stream) override { launch_(reinterpret_cast<std::uintptr_t>(stream)); }
  std::vector<cuda::DeviceOperand> device_operands() override {
    std::vector<cuda::DeviceOperand> all;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      all.push_back({specs_[i].name, buffers_[i].get(), specs_[i].is_output});
    }
    return all;
  }
  bool keeps_addresses() const override { return true; }
  std::string implementation() const override { return "plug-in"; }
  std::int64_t workspace_bytes() const override { return 0; }

 private:
  std::vector<OperandSpec> specs_;
  std::vector<std::unique_ptr<cuda::Buffer>> buffers_;
  Launch launch_;
};

}  // namespace

std::unique_ptr<Harness> callable_harness(const std::vector<OperandSpec>& operands, const Open& open) {
  return std::make_unique<CallableHarness>(operands, open);
}

}  // namespace microbench
