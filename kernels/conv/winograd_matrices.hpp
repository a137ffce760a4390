#pragma once

namespace microbench::conv {

// The matrices of Winograd's minimal filtering F(m x m, 3 x 3): Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", CVPR 2016, section 4. The gradient of the filters is F(3 x 3, m x m) in the
// same points 0, +-1,
// (+-2,) infinity, so that the input's transform is the same.

struct Winograd2x2 {
  struct Input {
    static constexpr int kRows = 4, kColumns = 4;
    static constexpr float kValues[4][4]{{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
  };
  struct Filter {
    static constexpr int kRows = 4, kColumns = 3;
    static constexpr float kValues[4][3]{{1, 0, 0}, {.5F, .5F, .5F}, {.5F, -.5F, .5F}, {0, 0, 1}};
  };
  struct Output {
    static constexpr int kRows = 2, kColumns = 4;
    static constexpr float kValues[2][4]{{1, 1, 1, 0}, {0, 1, -1, -1}};
  };
  struct GradientFilter {
    static constexpr int kRows = 4, kColumns = 2;
    static constexpr float kValues[4][2]{{1, 0}, {.5F, .5F}, {.5F, -.5F}, {0, 1}};
  };
  struct GradientOutput {
    static constexpr int kRows = 3, kColumns = 4;
    static constexpr float kValues[3][4]{{1, 1, 1, 0}, {0, 1, -1, 0}, {0, 1, 1, -1}};
  };
};

struct Winograd4x4 {
  struct Input {
    static constexpr int kRows = 6, kColumns = 6;
    static constexpr float kValues[6][6]{{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                         {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
  };
  struct Filter {
    static constexpr int kRows = 6, kColumns = 3;
    static constexpr float kValues[6][3]{{1 / 4.F, 0, 0},
                                         {-1 / 6.F, -1 / 6.F, -1 / 6.F},
                                         {-1 / 6.F, 1 / 6.F, -1 / 6.F},
                                         {1 / 24.F, 1 / 12.F, 1 / 6.F},
                                         {1 / 24.F, -1 / 12.F, 1 / 6.F},
                                         {0, 0, 1}};
  };
  struct Output {
    static constexpr int kRows = 4, kColumns = 6;
    static constexpr float kValues[4][6]{
        {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};
  };
  struct GradientFilter {
    static constexpr int kRows = 6, kColumns = 4;
    static constexpr float kValues[6][4]{{1 / 4.F, 0, 0, 0},
                                         {-1 / 6.F, -1 / 6.F, -1 / 6.F, -1 / 6.F},
                                         {-1 / 6.F, 1 / 6.F, -1 / 6.F, 1 / 6.F},
                                         {1 / 24.F, 1 / 12.F, 1 / 6.F, 1 / 3.F},
                                         {1 / 24.F, -1 / 12.F, 1 / 6.F, -1 / 3.F},
                                         {0, 0, 0, 1}};
  };
  struct GradientOutput {
    static constexpr int kRows = 3, kColumns = 6;
    static constexpr float kValues[3][6]{{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 1}};
  };
};

}  // namespace microbench::conv
