#pragma once

#include <algorithm>
#include <charconv>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conv/place.hpp"

namespace microbench::conv {

// A division of the batch is an algorithm's name: "microbatch:3*winograd_4x4@64,im2col@10" are three kernels
// on 64 images each and one on 10.
constexpr std::string_view kMicroBatch = "microbatch:";

inline bool is_division(const std::string& algorithm) { return algorithm.rfind(kMicroBatch, 0) == 0; }

// `count` kernels in a row, on `images` images each.
struct Part {
  std::int64_t count = 1;
  std::string algorithm;
  std::int64_t images = 0;
};

// Throws Unsupported for what is no division of `batch` images.
inline std::vector<Part> parts_of(const std::string& division, std::int64_t batch) {
  const auto number = [&](std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > batch) {
      throw Unsupported("'" + division + "': '" + std::string(text) + "' is no number from 1 to " +
                        std::to_string(batch));
    }
    return value;
  };
  std::vector<Part> parts;
  std::int64_t images = 0;
  for (std::size_t begin = kMicroBatch.size(); begin <= division.size();) {
    const std::size_t end = std::min(division.find(',', begin), division.size());
    std::string_view text = std::string_view(division).substr(begin, end - begin);
    begin = end + 1;
    Part part;
    if (const std::size_t star = text.find('*'); star != std::string_view::npos) {
      part.count = number(text.substr(0, star));
      text.remove_prefix(star + 1);
    }
    const std::size_t at = text.rfind('@');
    if (at == std::string_view::npos || at == 0) {
      throw Unsupported("'" + division + "': a part is ALGORITHM@IMAGES or COUNT*ALGORITHM@IMAGES, as in " +
                        std::string(kMicroBatch) + "2*im2col@64,im2col@10");
    }
    part.algorithm = text.substr(0, at);
    part.images = number(text.substr(at + 1));
    images += part.count * part.images;
    parts.push_back(std::move(part));
  }
  if (images != batch) {
    throw Unsupported("'" + division + "' has " + std::to_string(images) + " images, the batch " +
                      std::to_string(batch));
  }
  return parts;
}

// Opens one kernel in a place.
using OpenPart = std::function<std::unique_ptr<Harness>(const Request&, const Place*)>;

// Several kernels, each on its part of the batch, one after another in one workspace, as large as the largest
// of them needs: Oyama, Ben-Nun, Hoefler and Matsuoka, "Accelerating Deep Learning Frameworks with
// Micro-batches", IEEE CLUSTER 2018. The first kernel writes a gradient of the weights, the others add theirs
// to it through a buffer that counts as workspace, because CPU libraries know no beta. Weights that a kernel
// brought to its own form lie in the workspace: where another kernel follows they are made anew, in the timed
// region.
class MicroBatched final : public Harness {
 public:
  MicroBatched(const Request& request, ElementType storage, ElementType result, const OpenPart& open)
      : shape_(request), threads_(request.threads), operands_(shape_, storage, result) {
    const std::vector<Part> parts = parts_of(request.algorithm, shape_.n);
    const bool sums = shape_.pass == Pass::backward_weights && (parts.size() > 1 || parts[0].count > 1);
    if (sums && result != ElementType::float32) {
      throw Unsupported("gradients of weights are summed over micro-batches in fp32 only");
    }
    std::int64_t shared = 0;
    Place place{
        {}, {operands_.weights.data(), operands_.weights.elements()}, {}, [&](std::int64_t bytes) -> void* {
          shared = std::max(shared, round_up(bytes, kAlignment));
          return nullptr;
        }};
    for (const Part& part : parts) {
      place.input = images(operands_.input, 0, part.images),
      place.output = images(operands_.output, 0, part.images);
      const std::unique_ptr<Harness> counted = open(request_of(request, part), &place);
      implementation_ += (implementation_.empty() ? "" : "; ") + std::to_string(part.count) + " x " +
                         counted->implementation();
    }
    workspace_.emplace(shared + (sums ? operands_.weights.elements() * element_bytes(result) : 0),
                       request.workspace_limit, nullptr);
    auto* memory = static_cast<char*>(workspace_->data());
    if (sums) sums_ = reinterpret_cast<float*>(memory + shared);
    place.workspace = [memory](std::int64_t) { return memory; };
    std::int64_t first = 0;
    for (const Part& part : parts) {
      for (std::int64_t i = 0; i < part.count; ++i, first += part.images) {
        place.input = images(operands_.input, first, part.images);
        place.output = images(operands_.output, first, part.images);
        if (first > 0 && sums) place.weights.data = sums_;
        steps_.push_back({&part - parts.data(), open(request_of(request, part), &place)});
      }
    }
  }

  void prepare() override {
    steps_.front().kernel->prepare();
    prepared_ = steps_.front().part;
  }

  void launch() override {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const auto& [part, kernel] = steps_[i];
      if (part != prepared_) kernel->prepare();
      prepared_ = part;
      kernel->launch();
      if (i > 0 && sums_ != nullptr) add_gradient();
    }
  }

  std::vector<Operand> operands() override { return operands_.list(shape_.pass); }
  std::string implementation() const override { return implementation_; }
  std::int64_t workspace_bytes() const override { return workspace_->bytes(); }

 private:
  static constexpr std::int64_t kAlignment = 64;

  struct Step {
    std::ptrdiff_t part;
    std::unique_ptr<Harness> kernel;
  };

  static std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

  static Request request_of(const Request& whole, const Part& part) {
    Request request = whole;
    request.algorithm = part.algorithm;
    request.problem["n"] = part.images;
    request.workspace_limit = INT64_MAX;  // held against what all of them need
    return request;
  }

  // In both layouts the images of a batch follow each other.
  Span images(Buffer& all, std::int64_t first, std::int64_t count) const {
    return {static_cast<char*>(all.data()) + all.bytes() / shape_.n * first,
            all.elements() / shape_.n * count};
  }

  void add_gradient() {
    auto* gradient = operands_.weights.as<float>();
    const std::int64_t elements = operands_.weights.elements();
#pragma omp parallel for simd num_threads(threads_) schedule(static)
    for (std::int64_t i = 0; i < elements; ++i) gradient[i] += sums_[i];
  }

  Shape shape_;
  int threads_;
  Operands operands_;
  std::optional<Workspace> workspace_;
  float* sums_ = nullptr;  // the gradient of one micro-batch
  std::vector<Step> steps_;
  std::ptrdiff_t prepared_ = 0;  // whose weights the workspace holds
  std::string implementation_;
};

}  // namespace microbench::conv
