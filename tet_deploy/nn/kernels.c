/* The time loop of LIF neurons, forward and backward, with the batch norm before and the average pool after it: float32,
   channels last.

       I = sum over one or two terms of (x - mean) * scale + shift      per channel; a plain term is x itself
       u = decay * v + I ;  s = 1 if u > threshold else 0 ;  v = 0 where s, else u

   An array of one step holds `neurons` values, neurons a multiple of `channels`, channels fastest. Neurons are walked through
   in chunks that stay in the first-level cache for all steps, so u is computed again in the backward pass and never stored.
   Sums go into a fixed number of parts that are added in order: results do not depend on the number of threads.
   Build with -ffp-contract=off: multiply, then add, as everywhere else. Functions return 0, or 1 if memory ran out. */

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PARTS 64
#define CHUNK 128 /* neurons, unless a layer has more channels */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef struct {
    const float *x;                    /* [steps, neurons]; NULL: no such term */
    ptrdiff_t stride;                  /* between steps; 0: the same values at every step */
    const float *mean, *scale, *shift; /* [channels]; NULL: plain */
} Term;

typedef struct {
    ptrdiff_t steps, neurons, channels;
    float decay, threshold, gamma;
    ptrdiff_t pool, row; /* side of the pool's windows, 1: none; and values in a row of an image */
} Population;

static ptrdiff_t chunk_of(ptrdiff_t channels) { return channels < CHUNK ? CHUNK / channels * channels : channels; }

static ptrdiff_t chunk_for(const Population *p) { return p->pool > 1 ? p->pool * p->row : chunk_of(p->channels); }

/* Spikes of `pool` rows to their means over windows, one row. */
static void pool_rows(const float *spikes, float *out, const Population *p) {
    const ptrdiff_t channels = p->channels, width = p->row / channels, length = width / p->pool * channels;
    memset(out, 0, length * sizeof *out);
    for (ptrdiff_t i = 0; i < p->pool; i++)
        for (ptrdiff_t j = 0; j < width; j++) {
            const float *from = spikes + i * p->row + j * channels;
            float *to = out + j / p->pool * channels;
            for (ptrdiff_t c = 0; c < channels; c++) to[c] += from[c];
        }
    for (ptrdiff_t i = 0; i < length; i++) out[i] /= p->pool * p->pool;
}

/* Its gradient: from one row to `pool` rows. */
static void unpool_row(const float *grad, float *out, const Population *p) {
    const ptrdiff_t channels = p->channels, width = p->row / channels;
    for (ptrdiff_t j = 0; j < width; j++)
        for (ptrdiff_t c = 0; c < channels; c++)
            out[j * channels + c] = grad[j / p->pool * channels + c] / (p->pool * p->pool);
    for (ptrdiff_t i = 1; i < p->pool; i++) memcpy(out + i * p->row, out, p->row * sizeof *out);
}

static ptrdiff_t part_begin(ptrdiff_t chunks, ptrdiff_t part) { return chunks * part / PARTS; }

/* Per-channel values repeated to the length of a chunk, so that inner loops are flat. */
static void repeat(float *to, const float *from, ptrdiff_t channels, ptrdiff_t length) {
    for (ptrdiff_t i = 0; from && i < length; i += channels) memcpy(to + i, from, channels * sizeof *to);
}

/* A term's repeated values follow one another in memory. */
static void repeat_term(float *to, const Term *term, ptrdiff_t channels, ptrdiff_t length) {
    repeat(to, term->mean, channels, length);
    repeat(to + length, term->scale, channels, length);
    repeat(to + 2 * length, term->shift, channels, length);
}

ALWAYS_INLINE float value(int normed, float x, const float *repeated, ptrdiff_t length, ptrdiff_t i) {
    return normed ? (x - repeated[i]) * repeated[length + i] + repeated[2 * length + i] : x;
}

/* One chunk over all steps; spikes, if asked for, and u, if asked for ([steps, length]). */
ALWAYS_INLINE void walk(int normed, int second, const Term *a, const Term *b, const Population *p, ptrdiff_t begin,
                        ptrdiff_t n, ptrdiff_t length, const float *repeat_a, const float *repeat_b, float *v,
                        float *spikes, float *row, float *u_out) {
    const float decay = p->decay, threshold = p->threshold;
    memset(v, 0, n * sizeof *v);
    for (ptrdiff_t t = 0; t < p->steps; t++) {
        const float *x = a->x + t * a->stride + begin;
        const float *y = second ? b->x + t * b->stride + begin : NULL;
        float *s = !spikes || p->pool > 1 ? row : spikes + t * p->neurons + begin;
        float *u_t = u_out ? u_out + t * length : NULL;
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            float current = value(normed, x[i], repeat_a, length, i);
            if (second) current += value(second == 2, y[i], repeat_b, length, i);
            float u = v[i] * decay + current;
            if (s) s[i] = u > threshold ? 1.0f : 0.0f;
            if (u_t) u_t[i] = u;
            v[i] = u > threshold ? 0.0f : u;
        }
        if (spikes && p->pool > 1) pool_rows(row, spikes + (t * p->neurons + begin) / (p->pool * p->pool), p);
    }
}

/* The variants that exist; `kind` of the second term: 0 none, 1 plain, 2 normed. */
#define DISPATCH(call)                              \
    do {                                            \
        if (!a->mean) call(0, 0);                   \
        else if (!b->x) call(1, 0);                 \
        else if (!b->mean) call(1, 1);              \
        else call(1, 2);                            \
    } while (0)

int lif_forward(const Term *a, const Term *b, const Population *p, float *spikes, int threads) {
    const ptrdiff_t length = chunk_for(p), chunks = (p->neurons + length - 1) / length;
    int failed = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
    for (ptrdiff_t part = 0; part < PARTS; part++) {
        const ptrdiff_t first = part_begin(chunks, part), last = part_begin(chunks, part + 1);
        if (first == last) continue;
        float *scratch = malloc(8 * length * sizeof *scratch);
        if (!scratch) { failed = 1; continue; }
        float *v = scratch, *repeat_a = scratch + length, *repeat_b = scratch + 4 * length, *row = scratch + 7 * length;
        repeat_term(repeat_a, a, p->channels, length);
        repeat_term(repeat_b, b, p->channels, length);
        for (ptrdiff_t chunk = first; chunk < last; chunk++) {
            const ptrdiff_t begin = chunk * length, n = p->neurons - begin < length ? p->neurons - begin : length;
#define FORWARD(normed, second) walk(normed, second, a, b, p, begin, n, length, repeat_a, repeat_b, v, spikes, row, NULL)
            DISPATCH(FORWARD);
        }
        free(scratch);
    }
    return failed;
}

/* One chunk of the backward pass, from the last step to the first; u [steps, length] is known. Adds up, over steps, the
   gradient of I and its products with x - mean of each term. */
ALWAYS_INLINE void walk_back(int normed, int second, int once, const Term *a, const Term *b, const Population *p,
                             ptrdiff_t begin, ptrdiff_t n, ptrdiff_t length, const float *repeat_a, const float *repeat_b,
                             const float *u_in, const float *grad_spikes, float *grad, float *grad_v, float *row, float *sum,
                             float *sum_a, float *sum_b) {
    const float decay = p->decay, threshold = p->threshold, gamma = p->gamma;
    const float inverse = (float)(1.0 / ((double)gamma * gamma));
    memset(grad_v, 0, n * sizeof *grad_v);
    if (normed) {
        memset(sum, 0, length * sizeof *sum);
        memset(sum_a, 0, length * sizeof *sum);
        memset(sum_b, 0, length * sizeof *sum);
    }
    for (ptrdiff_t t = p->steps - 1; t >= 0; t--) {
        const float *x = a->x + t * a->stride + begin;
        const float *y = second ? b->x + t * b->stride + begin : NULL;
        const float *g_s = grad_spikes + t * p->neurons + begin, *u_t = u_in + t * length;
        if (p->pool > 1) {
            unpool_row(grad_spikes + (t * p->neurons + begin) / (p->pool * p->pool), row, p);
            g_s = row;
        }
        float *g = once ? grad + begin : grad + t * p->neurons + begin;
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const float u = u_t[i], triangle = gamma - fabsf(u - threshold);
            const float surrogate = (triangle > 0.0f ? triangle : 0.0f) * inverse;
            const float grad_u = (g_s[i] - grad_v[i] * u) * surrogate + (u > threshold ? 0.0f : grad_v[i]);
            grad_v[i] = grad_u * decay;
            g[i] = once && t < p->steps - 1 ? g[i] + grad_u : grad_u;
            if (normed) {
                sum[i] += grad_u;
                sum_a[i] += grad_u * (x[i] - repeat_a[i]);
            }
            if (second == 2) sum_b[i] += grad_u * (y[i] - repeat_b[i]);
        }
    }
}

static void add_up(double *to, const float *from, ptrdiff_t channels, ptrdiff_t length) {
    for (ptrdiff_t i = 0; i < length; i += channels)
        for (ptrdiff_t c = 0; c < channels; c++) to[c] += from[i + c];
}

/* sums [3, channels]: of the gradient of I, and of its products with x - mean of each term; NULL if nothing is normed.
   grad [steps, neurons], or [neurons] summed over steps if `once`. */
int lif_backward(const Term *a, const Term *b, const Population *p, const float *grad_spikes, float *grad, int once,
                 double *sums, int threads) {
    const ptrdiff_t length = chunk_for(p), chunks = (p->neurons + length - 1) / length, width = 3 * p->channels;
    double *parts = sums ? calloc(PARTS * width, sizeof *parts) : NULL;
    int failed = sums && !parts;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
    for (ptrdiff_t part = 0; part < PARTS; part++) {
        const ptrdiff_t first = part_begin(chunks, part), last = part_begin(chunks, part + 1);
        if (first == last || (sums && !parts)) continue;
        float *scratch = malloc((12 + p->steps) * length * sizeof *scratch);
        if (!scratch) { failed = 1; continue; }
        float *v = scratch, *repeat_a = scratch + length, *repeat_b = scratch + 4 * length, *grad_v = scratch + 7 * length;
        float *sum = scratch + 8 * length, *sum_a = sum + length, *sum_b = sum_a + length, *row = sum_b + length;
        float *u = row + length;
        repeat_term(repeat_a, a, p->channels, length);
        repeat_term(repeat_b, b, p->channels, length);
        for (ptrdiff_t chunk = first; chunk < last; chunk++) {
            const ptrdiff_t begin = chunk * length, n = p->neurons - begin < length ? p->neurons - begin : length;
#define BACK(normed, second, once)                                                                                       \
    walk_back(normed, second, once, a, b, p, begin, n, length, repeat_a, repeat_b, u, grad_spikes, grad, grad_v, row, sum, \
              sum_a, sum_b)
#define BACKWARD(normed, second)                                                                      \
    do {                                                                                              \
        walk(normed, second, a, b, p, begin, n, length, repeat_a, repeat_b, v, NULL, NULL, u);        \
        if (once) BACK(normed, second, 1);                                                            \
        else BACK(normed, second, 0);                                                                 \
    } while (0)
            DISPATCH(BACKWARD);
            if (parts) {
                double *to = parts + part * width;
                add_up(to, sum, p->channels, length);
                add_up(to + p->channels, sum_a, p->channels, length);
                if (b->mean) add_up(to + 2 * p->channels, sum_b, p->channels, length);
            }
        }
        free(scratch);
    }
    for (ptrdiff_t i = 0; sums && !failed && i < width; i++) {
        sums[i] = 0.0;
        for (ptrdiff_t part = 0; part < PARTS; part++) sums[i] += parts[part * width + i];
    }
    free(parts);
    return failed;
}

/* Mean and biased variance of each channel of x [rows, channels], in double. Differences to the first row are summed: without
   it, values far from zero would cancel. */
int statistics(const float *x, ptrdiff_t rows, ptrdiff_t channels, double *mean, double *variance, int threads) {
    const ptrdiff_t length = chunk_of(channels), size = rows * channels, chunks = (size + length - 1) / length;
    double *parts = calloc(PARTS * 2 * channels, sizeof *parts);
    int failed = !parts;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
    for (ptrdiff_t part = 0; part < PARTS; part++) {
        const ptrdiff_t first = part_begin(chunks, part), last = part_begin(chunks, part + 1);
        if (first == last || !parts) continue;
        double *scratch = calloc(3 * length, sizeof *scratch);
        if (!scratch) { failed = 1; continue; }
        double *sum = scratch, *squares = scratch + length;
        float *origin = (float *)(scratch + 2 * length);
        repeat(origin, x, channels, length);
        for (ptrdiff_t chunk = first; chunk < last; chunk++) {
            const ptrdiff_t begin = chunk * length, n = size - begin < length ? size - begin : length;
            for (ptrdiff_t i = 0; i < n; i++) {
                const double difference = (double)x[begin + i] - origin[i];
                sum[i] += difference;
                squares[i] += difference * difference;
            }
        }
        double *to = parts + part * 2 * channels;
        for (ptrdiff_t i = 0; i < length; i++) {
            to[i % channels] += sum[i];
            to[channels + i % channels] += squares[i];
        }
        free(scratch);
    }
    for (ptrdiff_t c = 0; !failed && c < channels; c++) {
        double sum = 0.0, squares = 0.0;
        for (ptrdiff_t part = 0; part < PARTS; part++) {
            sum += parts[part * 2 * channels + c];
            squares += parts[part * 2 * channels + channels + c];
        }
        mean[c] = x[c] + sum / rows;
        variance[c] = fmax(0.0, (squares - sum / rows * sum) / rows);
    }
    free(parts);
    return failed;
}

/* out = scale * (grad - offset - (x - mean) * slope), per channel, over [rows, channels]; out may be grad. */
int norm_backward(const float *grad, const float *x, const float *mean, const float *scale, const float *offset,
                  const float *slope, float *out, ptrdiff_t rows, ptrdiff_t channels, int threads) {
    const ptrdiff_t length = chunk_of(channels), size = rows * channels, chunks = (size + length - 1) / length;
    int failed = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
    for (ptrdiff_t part = 0; part < PARTS; part++) {
        const ptrdiff_t first = part_begin(chunks, part), last = part_begin(chunks, part + 1);
        if (first == last) continue;
        float *m = malloc(4 * length * sizeof *m);
        if (!m) { failed = 1; continue; }
        float *k = m + length, *o = k + length, *d = o + length;
        repeat(m, mean, channels, length);
        repeat(k, scale, channels, length);
        repeat(o, offset, channels, length);
        repeat(d, slope, channels, length);
        for (ptrdiff_t chunk = first; chunk < last; chunk++) {
            const ptrdiff_t begin = chunk * length, n = size - begin < length ? size - begin : length;
            for (ptrdiff_t i = 0; i < n; i++)
                out[begin + i] = k[i] * (grad[begin + i] - o[i] - (x[begin + i] - m[i]) * d[i]);
        }
        free(m);
    }
    return failed;
}
