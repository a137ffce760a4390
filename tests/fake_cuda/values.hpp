#pragma once

#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

// Elements of every type that cuDNN stores, read and written as double.
namespace fake {

inline double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

inline std::uint16_t half_bits(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  const int unit = std::max(exponent - 11, -24);  // of the last place
  const auto steps = static_cast<long>(std::nearbyint(std::ldexp(std::fabs(value), -unit)));
  // Steps of 1024 and above carry into the exponent's bits by themselves.
  const long bits = steps < 1024 ? steps : (static_cast<long>(unit + 24) << 10) + steps;
  return static_cast<std::uint16_t>(bits | (std::signbit(value) ? 0x8000 : 0));
}

inline std::uint16_t bfloat16_bits(double value) {
  const auto narrow = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &narrow, sizeof(bits));
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline double bfloat16_value(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return static_cast<double>(value);
}

inline std::int64_t bytes_of(cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_DOUBLE:
      return 8;
    case CUDNN_DATA_FLOAT:
    case CUDNN_DATA_INT32:
      return 4;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16:
      return 2;
    case CUDNN_DATA_INT8:
      return 1;
    default:
      throw std::logic_error("the fake has no such type");
  }
}

inline double load(cudnnDataType_t type, const void* data, std::int64_t index) {
  switch (type) {
    case CUDNN_DATA_DOUBLE:
      return static_cast<const double*>(data)[index];
    case CUDNN_DATA_FLOAT:
      return static_cast<double>(static_cast<const float*>(data)[index]);
    case CUDNN_DATA_INT32:
      return static_cast<const std::int32_t*>(data)[index];
    case CUDNN_DATA_HALF:
      return half_value(static_cast<const std::uint16_t*>(data)[index]);
    case CUDNN_DATA_BFLOAT16:
      return bfloat16_value(static_cast<const std::uint16_t*>(data)[index]);
    case CUDNN_DATA_INT8:
      return static_cast<const std::int8_t*>(data)[index];
    default:
      throw std::logic_error("the fake has no such type");
  }
}

inline void store(cudnnDataType_t type, void* data, std::int64_t index, double value) {
  switch (type) {
    case CUDNN_DATA_DOUBLE:
      static_cast<double*>(data)[index] = value;
      return;
    case CUDNN_DATA_FLOAT:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      return;
    case CUDNN_DATA_INT32:
      static_cast<std::int32_t*>(data)[index] = static_cast<std::int32_t>(value);
      return;
    case CUDNN_DATA_HALF:
      static_cast<std::uint16_t*>(data)[index] = half_bits(value);
      return;
    case CUDNN_DATA_BFLOAT16:
      static_cast<std::uint16_t*>(data)[index] = bfloat16_bits(value);
      return;
    default:
      throw std::logic_error("the fake has no such type");
  }
}

// Rounded to 11 significand bits, as operands of TF32 products are.
inline double tf32(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
}

}  // namespace fake
