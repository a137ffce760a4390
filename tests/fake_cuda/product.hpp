#pragma once

#include <cublas_v2.h>

#include "device.hpp"
#include "values.hpp"

// Matrix products as cuBLAS describes them, by loops from the definition.
namespace fake {

struct Matrix {
  cudaDataType_t type = CUDA_R_32F;
  std::int64_t rows = 0, columns = 0, ld = 0, stride = 0;
  std::int32_t batch = 1;
};

inline double float8_value(std::uint8_t bits, int exponent_bits) {
  const int fraction_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1),
            fraction = bits & ((1 << fraction_bits) - 1);
  const double magnitude = exponent == 0
                               ? std::ldexp(fraction, 1 - bias - fraction_bits)
                               : std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
  return bits >> 7 != 0 ? -magnitude : magnitude;
}

inline cudnnDataType_t named(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_64F:
      return CUDNN_DATA_DOUBLE;
    case CUDA_R_32F:
      return CUDNN_DATA_FLOAT;
    case CUDA_R_16F:
      return CUDNN_DATA_HALF;
    case CUDA_R_16BF:
      return CUDNN_DATA_BFLOAT16;
    case CUDA_R_8I:
      return CUDNN_DATA_INT8;
    case CUDA_R_32I:
      return CUDNN_DATA_INT32;
    default:
      throw std::logic_error("the fake has no such type");
  }
}

inline double element(cudaDataType_t type, const void* data, std::int64_t index) {
  if (type == CUDA_R_8F_E4M3) return float8_value(static_cast<const std::uint8_t*>(data)[index], 4);
  if (type == CUDA_R_8F_E5M2) return float8_value(static_cast<const std::uint8_t*>(data)[index], 5);
  return load(named(type), data, index);
}

// The value of a scalar given by address in the scale type.
inline double scalar(cudaDataType_t type, const void* value) { return load(named(type), value, 0); }

inline void multiply(cublasComputeType_t compute, cudaDataType_t scale, const void* alpha, bool a_transposed,
                     const void* a, const Matrix& a_is, bool b_transposed, const void* b, const Matrix& b_is,
                     const void* beta, void* c, const Matrix& c_is) {
  const std::int64_t inner = a_transposed ? a_is.rows : a_is.columns;
  const double factor = scalar(scale, alpha), kept = scalar(scale, beta);
  const bool short_products = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  for (std::int64_t item = 0; item < c_is.batch; ++item) {
    for (std::int64_t j = 0; j < c_is.columns; ++j) {
      for (std::int64_t i = 0; i < c_is.rows; ++i) {
        double sum = 0;
        for (std::int64_t p = 0; p < inner; ++p) {
          const std::int64_t a_place = a_transposed ? p + i * a_is.ld : i + p * a_is.ld;
          const std::int64_t b_place = b_transposed ? j + p * b_is.ld : p + j * b_is.ld;
          double x = element(a_is.type, a, item * a_is.stride + a_place);
          double y = element(b_is.type, b, item * b_is.stride + b_place);
          if (short_products) x = tf32(x), y = tf32(y);
          sum += x * y;
        }
        const std::int64_t place = item * c_is.stride + i + j * c_is.ld;
        double result = factor * sum;
        if (kept != 0) result += kept * element(c_is.type, c, place);
        store(named(c_is.type), c, place, result);
      }
    }
  }
}

inline double seconds_of(const Matrix& c, std::int64_t inner) {
  return 2.0 * static_cast<double>(c.rows * c.columns * inner * c.batch) / kFlopsPerS;
}

}  // namespace fake
