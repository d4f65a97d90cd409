// The scalar form of the fast Hadamard transform.
#pragma STDC FP_CONTRACT OFF

#include <string.h>

#include "forms.h"

void ot_hadamard_scalar(const float *x, size_t count, size_t block_size, float *y) {
  float factor = (float)(1 / __builtin_sqrt((double)block_size));
  if (count > 0) memmove(y, x, count * sizeof *y);
  for (size_t start = 0; start < count; start += block_size) {
    float *block = y + start;
    // Stages from near to far partners: the order of the additions.
    for (size_t distance = 1; distance < block_size; distance *= 2)
      for (size_t k = 0; k < block_size; k++) {
        if (k & distance) continue;
        float a = block[k], b = block[k + distance];
        block[k] = a + b;
        block[k + distance] = a - b;
      }
    for (size_t k = 0; k < block_size; k++) block[k] = block[k] * factor;
  }
}
