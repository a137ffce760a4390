#include "conv/transform.hpp"

#include <omp.h>

#include <algorithm>
#include <optional>

#include "conv/images.hpp"

namespace microbench::conv {
namespace {

// Transformed tiles that are worked on at a time: they should still be in a shared cache when they are read
// again.
constexpr std::int64_t kBlockBytes = std::int64_t{16} << 20;
// The same where a thread works alone, in a cache of its own, and the filters that may be read through it.
constexpr std::int64_t kOwnBytes = std::int64_t{512} << 10;
constexpr std::int64_t kOwnFilterBytes = std::int64_t{768} << 10;
constexpr std::int64_t kFewestTiles = 14;
constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));

class TransformedConvolution final : public Harness {
 public:
  TransformedConvolution(const Request& request, std::unique_ptr<TileTransform> transform, const Place* place)
      : shape_(request),
        kernels_(vector_kernels()),
        lanes_(kernels_.lanes),
        threads_(request.threads),
        transform_(std::move(transform)),
        parts_(transform_->is_complex() ? 2 : 1),
        points_(transform_->points()),
        step_h_(transform_->step_h()),
        step_w_(transform_->step_w()),
        operands_(shape_, ElementType::float32, ElementType::float32, place),
        correlation_(shape_, operands_),
        gradient_(shape_.pass == Pass::backward_weights),
        tile_rows_(divide_up(correlation_.out.h, step_h_)),
        tile_columns_(divide_up(correlation_.out.w, step_w_)),
        runs_(shape_.n * tile_rows_),
        in_stride_(padded(correlation_.in.channels)),
        out_stride_(padded(correlation_.out.channels)) {
    choose_block();
    Arena count;
    lay_out(count);
    workspace_.emplace(count.bytes(), request.workspace_limit, place);
    Arena arena(static_cast<float*>(workspace_->data()));
    lay_out(arena);
  }

  void prepare() override {
    if (gradient_) return;
#pragma omp parallel num_threads(threads_)
    for (std::int64_t group = 0; group < shape_.groups; ++group) transform_filters(group);
  }

  void launch() override {
#pragma omp parallel num_threads(threads_)
    for (std::int64_t group = 0; group < shape_.groups; ++group) {
      if (alone_) {
#pragma omp for schedule(dynamic)
        for (std::int64_t first = 0; first < runs_; first += block_runs_) run_block(group, first);
      } else {
        for (std::int64_t first = 0; first < runs_; first += block_runs_) run_block(group, first);
      }
      if (gradient_) transform_filter_gradients(group);
    }
  }

  std::vector<Operand> operands() override { return operands_.list(shape_.pass); }
  std::string implementation() const override {
    return transform_->name() + " " + kernels_.name + (gradient_ ? "" : ", filter transform not timed");
  }
  std::int64_t workspace_bytes() const override { return workspace_->bytes(); }

 private:
  // A row of channels: whole vectors, and no power of two, which would put a tile's rows into one cache set.
  std::int64_t padded(std::int64_t channels) const {
    const std::int64_t whole = round_up(channels, lanes_);
    return whole % 128 == 0 ? whole + lanes_ : whole;
  }

  // Work is cut into runs of tiles beside each other, and blocks of runs. Where all filters fit a thread's
  // own cache beside a few tiles, each thread works on blocks of its own; otherwise all threads work on each
  // block together.
  void choose_block() {
    const std::int64_t tile_bytes = points_ * parts_ * (in_stride_ + out_stride_) * kFloat;
    const std::int64_t filter_bytes = points_ * parts_ * filter_floats() * kFloat;
    const std::int64_t own_tiles = kOwnBytes / tile_bytes;
    alone_ = !gradient_ && filter_bytes <= kOwnFilterBytes && own_tiles >= kFewestTiles;
    if (alone_) {
      // Runs of nearly the same length.
      const std::int64_t cuts = divide_up(tile_columns_, own_tiles);
      run_tiles_ = divide_up(tile_columns_, cuts);
      runs_in_row_ = divide_up(tile_columns_, run_tiles_);
      runs_ *= runs_in_row_;
      block_runs_ = std::clamp<std::int64_t>(own_tiles / run_tiles_, 1, divide_up(runs_, threads_));
    } else {
      run_tiles_ = tile_columns_;
      // Each block reads all filters once: it should be worth that.
      const std::int64_t most = std::max(kBlockBytes, filter_bytes);
      block_runs_ = std::clamp<std::int64_t>(most / (tile_bytes * run_tiles_), 1, runs_);
    }
    block_tiles_ = block_runs_ * run_tiles_;
  }

  // One group's filters at one point, one part: panels of two vectors of output channels.
  std::int64_t filter_floats() const {
    return divide_up(correlation_.out.channels, 2 * lanes_) * correlation_.in.channels * 2 * lanes_;
  }

  std::int64_t run_width() const { return run_tiles_ * step_w_ + shape_.extent_w() - 1; }

  void run_block(std::int64_t group, std::int64_t first) {
    const std::int64_t last = std::min(runs_, first + block_runs_);
    transform_inputs(group, first, last);
    if (gradient_) {
      transform_gradients(group, first, last);
      multiply_gradients(first, last);
    } else {
      multiply(group, last - first);
      transform_outputs(group, first, last);
    }
  }

  // Calls work(0), work(1), ...: all of them here, or shared out among the threads, which then wait for each
  // other.
  template <typename Work>
  void share(std::int64_t count, Work&& work) const {
    if (alone_) {
      for (std::int64_t i = 0; i < count; ++i) work(i);
    } else {
#pragma omp for schedule(dynamic)
      for (std::int64_t i = 0; i < count; ++i) work(i);
    }
  }

  // Where a run of tiles lies.
  struct Run {
    std::int64_t image, top, left;
  };
  Run run(std::int64_t index) const {
    const std::int64_t row = index / runs_in_row_;
    return {row / tile_rows_, row % tile_rows_ * step_h_, index % runs_in_row_ * run_tiles_ * step_w_};
  }

  void lay_out(Arena& arena) {
    const std::int64_t c = correlation_.in.channels;
    const std::int64_t blocks = alone_ ? threads_ : 1;
    in_floats_ = points_ * parts_ * block_tiles_ * in_stride_;
    out_floats_ = points_ * parts_ * block_tiles_ * out_stride_;
    in_blocks_ = arena.take(blocks * in_floats_);
    out_blocks_ = arena.take(blocks * out_floats_);
    filters_ = gradient_ ? arena.take(points_ * parts_ * c * out_stride_)
                         : arena.take(shape_.groups * points_ * parts_ * filter_floats());
    staging_floats_ =
        std::max((step_h_ + shape_.extent_h() - 1) * run_width(), shape_.extent_h() * shape_.extent_w()) *
        lanes_;
    scratch_floats_ = transform_->scratch_vectors() * lanes_;
    thread_floats_ = round_up(staging_floats_, 16) + round_up(scratch_floats_, 16);
    staging_ = arena.take(threads_ * thread_floats_);
  }

  float* staging() const { return staging_ + omp_get_thread_num() * thread_floats_; }
  float* scratch() const { return staging() + round_up(staging_floats_, 16); }

  float* in_tiles() const { return in_blocks_ + (alone_ ? omp_get_thread_num() * in_floats_ : 0); }
  float* out_tiles() const { return out_blocks_ + (alone_ ? omp_get_thread_num() * out_floats_ : 0); }

  // Floats between the points, and between the parts, of transformed tiles.
  std::int64_t in_imaginary() const { return block_tiles_ * in_stride_; }
  std::int64_t out_imaginary() const { return block_tiles_ * out_stride_; }

  void transform_filters(std::int64_t group) {
    const std::int64_t c = correlation_.in.channels, k = correlation_.out.channels;
    const View& view = correlation_.filter_view;
    // A group's filters follow each other: forward they are its output channels, backward its input channels.
    const float* filters =
        correlation_.filters + group * (shape_.pass == Pass::forward ? k * view.n : c * view.c);
    float* out = filters_ + group * points_ * parts_ * filter_floats();
    const std::int64_t columns = shape_.extent_w();
    const std::int64_t vectors = divide_up(k, lanes_);
#pragma omp for collapse(2) schedule(static)
    for (std::int64_t vector = 0; vector < vectors; ++vector) {
      for (std::int64_t channel = 0; channel < c; ++channel) {
        float* taps = staging();
        std::fill_n(taps, shape_.extent_h() * columns * lanes_, 0.0F);
        const std::int64_t first = vector * lanes_, count = std::min<std::int64_t>(lanes_, k - first);
        for (std::int64_t r = 0; r < shape_.r; ++r) {
          for (std::int64_t s = 0; s < shape_.s; ++s) {
            float* tap = taps + (r * shape_.dilation_h * columns + s * shape_.dilation_w) * lanes_;
            const float* from = filters + first * view.n + channel * view.c + r * view.h + s * view.w;
            for (std::int64_t i = 0; i < count; ++i) tap[i] = from[i * view.n];
          }
        }
        transform_->filter(taps, columns * lanes_,
                           out + ((vector / 2 * c + channel) * 2 + vector % 2) * lanes_,
                           parts_ * filter_floats(), filter_floats(), scratch());
      }
    }
  }

  // Tiles of the rows first..last, staged from `images` and transformed by `apply` into `out`.
  template <typename Apply>
  void transform_tiles(const Images& images, std::int64_t first, std::int64_t last, std::int64_t height,
                       std::int64_t width, std::int64_t pad_h, std::int64_t pad_w, float* out,
                       std::int64_t stride, Apply&& apply) {
    const std::int64_t vectors = divide_up(images.channels, lanes_);
    share((last - first) * vectors, [&](std::int64_t index) {
      const std::int64_t number = index / vectors, vector = index % vectors;
      const auto [image, top, left] = run(first + number);
      float* pixels = staging();
      for (std::int64_t y = 0; y < height; ++y) {
        images.stage(kernels_, image, vector * lanes_, top - pad_h + y, left - pad_w, width,
                     pixels + y * width * lanes_, lanes_);
      }
      float* tile = out + number * run_tiles_ * stride + vector * lanes_;
      for (std::int64_t column = 0; column < run_tiles_; ++column, tile += stride) {
        apply(pixels + column * step_w_ * lanes_, width * lanes_, tile);
      }
    });
  }

  void transform_inputs(std::int64_t group, std::int64_t first, std::int64_t last) {
    transform_tiles(correlation_.in.group(group), first, last, step_h_ + shape_.extent_h() - 1, run_width(),
                    correlation_.pad_h, correlation_.pad_w, in_tiles(), in_stride_,
                    [&](const float* pixels, std::int64_t row, float* tile) {
                      transform_->input(pixels, row, tile, parts_ * in_imaginary(), in_imaginary(),
                                        scratch());
                    });
  }

  void transform_gradients(std::int64_t group, std::int64_t first, std::int64_t last) {
    transform_tiles(correlation_.out.group(group), first, last, step_h_, run_tiles_ * step_w_, 0, 0,
                    out_tiles(), out_stride_, [&](const float* pixels, std::int64_t row, float* tile) {
                      transform_->filter(pixels, row, tile, parts_ * out_imaginary(), out_imaginary(),
                                         scratch());
                    });
  }

  // Calls product(point, first, last) for parts of `rows` at every point, enough of them for all threads.
  template <typename MakeProduct>
  void multiply_points(std::int64_t rows, MakeProduct&& product) {
    const std::int64_t parts =
        alone_ ? 1 : std::clamp<std::int64_t>(divide_up(4 * threads_, points_), 1, divide_up(rows, 14));
    const auto multiply = parts_ == 2 ? kernels_.multiply_conjugate : kernels_.multiply;
    share(points_ * parts, [&](std::int64_t index) {
      const std::int64_t point = index / parts, part = index % parts;
      multiply(product(point, rows * part / parts, rows * (part + 1) / parts));
    });
  }

  void multiply(std::int64_t group, std::int64_t runs) {
    const std::int64_t c = correlation_.in.channels;
    const float* filters = filters_ + group * points_ * parts_ * filter_floats();
    multiply_points(runs * run_tiles_, [&](std::int64_t point, std::int64_t first, std::int64_t last) {
      Product product{};
      product.rows = last - first, product.columns = round_up(correlation_.out.channels, lanes_),
      product.depth = c;
      product.a = in_tiles() + point * parts_ * in_imaginary() + first * in_stride_;
      product.a_row = in_stride_, product.a_depth = 1;
      product.b = filters + point * parts_ * filter_floats();
      product.b_depth = 2 * lanes_, product.b_panel = c * 2 * lanes_;
      product.c = out_tiles() + point * parts_ * out_imaginary() + first * out_stride_;
      product.c_row = out_stride_;
      product.segments = 1;
      product.a_imaginary = in_imaginary(), product.b_imaginary = filter_floats();
      product.c_imaginary = out_imaginary();
      return product;
    });
  }

  void multiply_gradients(std::int64_t first_run, std::int64_t last_run) {
    const std::int64_t c = correlation_.in.channels;
    multiply_points(c, [&](std::int64_t point, std::int64_t first, std::int64_t last) {
      Product product{};
      product.rows = last - first, product.columns = round_up(correlation_.out.channels, lanes_);
      product.depth = (last_run - first_run) * run_tiles_;
      product.a = in_tiles() + point * parts_ * in_imaginary() + first;
      product.a_row = 1, product.a_depth = in_stride_;
      product.b = out_tiles() + point * parts_ * out_imaginary();
      product.b_depth = out_stride_, product.b_panel = 2 * lanes_;
      product.c = filters_ + point * parts_ * c * out_stride_ + first * out_stride_;
      product.c_row = out_stride_;
      product.accumulate = first_run > 0;
      product.segments = 1;
      product.a_imaginary = in_imaginary(), product.b_imaginary = out_imaginary();
      product.c_imaginary = c * out_stride_;
      return product;
    });
  }

  void transform_outputs(std::int64_t group, std::int64_t first, std::int64_t last) {
    const Images images = correlation_.out.group(group);
    const std::int64_t vectors = divide_up(images.channels, lanes_), width = run_tiles_ * step_w_;
    share((last - first) * vectors, [&](std::int64_t index) {
      const std::int64_t number = index / vectors, vector = index % vectors;
      const auto [image, top, left] = run(first + number);
      float* pixels = staging();
      const float* tile = out_tiles() + number * run_tiles_ * out_stride_ + vector * lanes_;
      for (std::int64_t column = 0; column < run_tiles_; ++column, tile += out_stride_) {
        transform_->output(tile, parts_ * out_imaginary(), out_imaginary(),
                           pixels + column * step_w_ * lanes_, width * lanes_, scratch());
      }
      for (std::int64_t y = 0; y < std::min(step_h_, images.h - top); ++y) {
        images.unstage(kernels_, pixels + y * width * lanes_, lanes_, image, vector * lanes_, top + y, left,
                       width);
      }
    });
  }

  void transform_filter_gradients(std::int64_t group) {
    const std::int64_t c = correlation_.in.channels, k = correlation_.out.channels;
    const View& view = correlation_.filter_view;
    float* filters = operands_.weights.as<float>() + group * k * view.n;
    const std::int64_t vectors = divide_up(k, lanes_), columns = shape_.extent_w();
#pragma omp for collapse(2) schedule(static)
    for (std::int64_t vector = 0; vector < vectors; ++vector) {
      for (std::int64_t channel = 0; channel < c; ++channel) {
        float* taps = staging();
        const std::int64_t first = vector * lanes_, count = std::min<std::int64_t>(lanes_, k - first);
        transform_->output(filters_ + channel * out_stride_ + first, parts_ * c * out_stride_,
                           c * out_stride_, taps, columns * lanes_, scratch());
        for (std::int64_t i = 0; i < count; ++i) {
          for (std::int64_t r = 0; r < shape_.r; ++r) {
            for (std::int64_t s = 0; s < shape_.s; ++s) {
              filters[(first + i) * view.n + channel * view.c + r * view.h + s * view.w] =
                  taps[(r * shape_.dilation_h * columns + s * shape_.dilation_w) * lanes_ + i];
            }
          }
        }
      }
    }
  }

  Shape shape_;
  const VectorKernels& kernels_;
  std::int64_t lanes_;
  int threads_;
  std::unique_ptr<TileTransform> transform_;
  std::int64_t parts_, points_, step_h_, step_w_;
  PlacedOperands operands_;
  Correlation correlation_;
  bool gradient_;
  std::int64_t tile_rows_, tile_columns_, runs_;
  std::int64_t in_stride_, out_stride_;  // floats between tiles at one point
  bool alone_ = false;
  std::int64_t run_tiles_ = 0, runs_in_row_ = 1, block_runs_ = 0, block_tiles_ = 0;
  std::int64_t in_floats_ = 0, out_floats_ = 0;
  std::int64_t staging_floats_ = 0, scratch_floats_ = 0, thread_floats_ = 0;
  std::optional<Workspace> workspace_;
  float *in_blocks_ = nullptr, *out_blocks_ = nullptr, *filters_ = nullptr, *staging_ = nullptr;
};

}  // namespace

std::unique_ptr<Harness> transformed_convolution(const Request& request,
                                                 std::unique_ptr<TileTransform> transform,
                                                 const Place* place) {
  return std::make_unique<TransformedConvolution>(request, std::move(transform), place);
}

}  // namespace microbench::conv
