/* SPDX-License-Identifier: MIT */
/* loops.c - update rules as loops in C, for optim_bench.lua to measure scripts against: built with
 * -O3 -march=native, shared out over threads by OpenMP. Formulas and order of settings are those
 * of the scripts; `p` is learning_rate, wd, rescale_grad, then the rule's own. */
#include <math.h>
#include <stddef.h>

void sgd_mom(float *w, const float *g, float *mom, const float *p, ptrdiff_t n, int threads);
void adam(float *w, const float *g, float *m, float *v, const float *p, ptrdiff_t n, int threads);
void amsgrad(float *w, const float *g, float *m, float *v, float *top, const float *p, ptrdiff_t n,
             int threads);
void lion(float *w, const float *g, float *m, const float *p, ptrdiff_t n, int threads);
void yogi(float *w, const float *g, float *m, float *v, const float *p, ptrdiff_t n, int threads);
void lamb(float *w, const float *g, float *m, float *v, const float *p, ptrdiff_t n, int threads);
void stream(float *y, const float *x, ptrdiff_t n, int threads);

#define LOOP _Pragma("omp parallel for simd schedule(static) num_threads(threads)")

void sgd_mom(float *restrict w, const float *restrict g, float *restrict mom, const float *p,
             ptrdiff_t n, int threads) {
  const float lr = p[0], wd = p[1], rescale = p[2], momentum = p[3];
  LOOP for (ptrdiff_t i = 0; i < n; i++) {
    const float d = g[i] * rescale + wd * w[i];
    mom[i] = momentum * mom[i] - lr * d;
    w[i] += mom[i];
  }
}

/* lr has the correction of the bias in it. */
void adam(float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
          const float *p, ptrdiff_t n, int threads) {
  const float lr = p[0], wd = p[1], rescale = p[2], b1 = p[3], b2 = p[4], eps = p[5];
  LOOP for (ptrdiff_t i = 0; i < n; i++) {
    const float d = g[i] * rescale + wd * w[i];
    m[i] = b1 * m[i] + (1 - b1) * d;
    v[i] = b2 * v[i] + (1 - b2) * d * d;
    w[i] -= lr * m[i] / (sqrtf(v[i]) + eps);
  }
}

/* Reddi et al., 2018 */
void amsgrad(float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
             float *restrict top, const float *p, ptrdiff_t n, int threads) {
  const float lr = p[0], wd = p[1], rescale = p[2], b1 = p[3], b2 = p[4], eps = p[5];
  LOOP for (ptrdiff_t i = 0; i < n; i++) {
    const float d = g[i] * rescale + wd * w[i];
    m[i] = b1 * m[i] + (1 - b1) * d;
    v[i] = b2 * v[i] + (1 - b2) * d * d;
    top[i] = v[i] > top[i] ? v[i] : top[i];
    w[i] -= lr * m[i] / (sqrtf(top[i]) + eps);
  }
}

/* Chen et al., 2023 */
void lion(float *restrict w, const float *restrict g, float *restrict m, const float *p,
          ptrdiff_t n, int threads) {
  const float lr = p[0], wd = p[1], rescale = p[2], b1 = p[3], b2 = p[4];
  LOOP for (ptrdiff_t i = 0; i < n; i++) {
    const float d = g[i] * rescale;
    const float c = b1 * m[i] + (1 - b1) * d;
    const float sign = (float)((c > 0) - (c < 0));
    m[i] = b2 * m[i] + (1 - b2) * d;
    w[i] -= lr * (sign + wd * w[i]);
  }
}

/* Zaheer et al., 2018 */
void yogi(float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
          const float *p, ptrdiff_t n, int threads) {
  const float lr = p[0], wd = p[1], rescale = p[2], b1 = p[3], b2 = p[4], eps = p[5];
  LOOP for (ptrdiff_t i = 0; i < n; i++) {
    const float d = g[i] * rescale + wd * w[i], d2 = d * d, change = v[i] - d2;
    m[i] = b1 * m[i] + (1 - b1) * d;
    v[i] -= (1 - b2) * (float)((change > 0) - (change < 0)) * d2;
    w[i] -= lr * m[i] / (sqrtf(v[i]) + eps);
  }
}

/* You et al., 2020, in two passes; p: ..., corrections 1 - b1^t and 1 - b2^t. */
void lamb(float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
          const float *p, ptrdiff_t n, int threads) {
  const float lr = p[0], wd = p[1], rescale = p[2], b1 = p[3], b2 = p[4], eps = p[5];
  const float c1 = p[6], c2 = p[7];
  double norm_w = 0, norm_u = 0;
#pragma omp parallel for simd schedule(static) num_threads(threads) reduction(+ : norm_w, norm_u)
  for (ptrdiff_t i = 0; i < n; i++) {
    const float d = g[i] * rescale;
    m[i] = b1 * m[i] + (1 - b1) * d;
    v[i] = b2 * v[i] + (1 - b2) * d * d;
    const float u = m[i] / c1 / (sqrtf(v[i] / c2) + eps) + wd * w[i];
    norm_w += (double)w[i] * w[i];
    norm_u += (double)u * u;
  }
  const double ratio = norm_w > 0 && norm_u > 0 ? sqrt(norm_w) / sqrt(norm_u) : 1;
  const float rate = (float)(lr * ratio);
  LOOP for (ptrdiff_t i = 0; i < n; i++) {
    const float u = m[i] / c1 / (sqrtf(v[i] / c2) + eps) + wd * w[i];
    w[i] -= rate * u;
  }
}

/* What memory gives to a loop that changes an array in place, as updates do: 12 bytes each. */
void stream(float *restrict y, const float *restrict x, ptrdiff_t n, int threads) {
  LOOP for (ptrdiff_t i = 0; i < n; i++) y[i] += x[i];
}
