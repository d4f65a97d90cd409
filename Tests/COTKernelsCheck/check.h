// What the files of this program share.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forms.h"

enum { most = 1024 };

uint32_t random_word(void);
size_t random_below(size_t bound);
void fill(void *bytes, size_t count);

/// Values that are hard on rounding: halves of `scale`, subnormals, extremes,
/// sometimes NaN and infinities.
void fill_floats(float *x, size_t count, float scale, int with_nonfinite);

/// Notes that `kernel` differs unless `agrees`.
void expect(int agrees, const char *kernel, size_t count);

/// The same bits, but for which NaN arithmetic gives.
int same_floats(const float *x, const float *y, size_t count);

// Kernels for what a model computes between products.
void check_values(const struct ot_kernels *a, const struct ot_kernels *b, size_t n);
void check_mixing(const struct ot_kernels *a, const struct ot_kernels *b);
