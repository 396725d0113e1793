/* The time loop of LIF neurons, forward and backward, with the batch norm before and the average pool after it, channels
   last. Arrays of neurons are float32, or with -DBFLOAT16 bfloat16; whatever is computed is float32, sums are double.

       I = sum over one or two terms of (x - mean) * scale + shift      per channel; a plain term is x itself
       u = decay * v + I ;  s = 1 if u > threshold else 0 ;  v = 0 where s, else u

   An array of one step holds `neurons` values, neurons a multiple of `channels`, channels fastest. Neurons are walked
   through in chunks that stay in the first-level cache for all steps: u is computed again in the backward pass, never stored.
   Sums go into a fixed number of parts that are added in order: results do not depend on the number of threads.
   Build with -ffp-contract=off: multiply, then add, as everywhere else. Functions return 0, or 1 if memory ran out. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PARTS 64
#define CHUNK 128 /* neurons, unless a layer has more channels */
#ifdef IDENTITY /* what a library that is built ahead says of itself */
const char tet_deploy_identity[] = IDENTITY;
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#ifdef BFLOAT16 /* the upper half of a float32; rounded to nearest, ties to even */
typedef uint16_t Real;
ALWAYS_INLINE float load(Real x) {
    const union { uint32_t bits; float value; } wide = {(uint32_t)x << 16};
    return wide.value;
}
ALWAYS_INLINE Real store(float x) {
    const union { float value; uint32_t bits; } wide = {x};
    return x == x ? (wide.bits + 0x7fff + (wide.bits >> 16 & 1)) >> 16 : 0x7fc0;
}
#else
typedef float Real;
ALWAYS_INLINE float load(Real x) { return x; }
ALWAYS_INLINE Real store(float x) { return x; }
#endif

typedef struct {
    const Real *x;                     /* [steps, neurons]; NULL: no such term */
    ptrdiff_t stride;                  /* between steps; 0: the same values at every step */
    const float *mean, *scale, *shift; /* [channels]; NULL: plain */
} Term;

typedef struct {
    ptrdiff_t steps, neurons, channels;
    float decay, threshold, gamma;
    ptrdiff_t pool, row; /* side of the pool's windows, 1: none; and values in a row of an image */
} Population;

static ptrdiff_t chunk_of(ptrdiff_t channels) { return channels < CHUNK ? CHUNK / channels * channels : channels; }

/* How a population is cut: a chunk is `width` values in each of `rows` rows; one row, but where a pool's windows span more. */
typedef struct {
    ptrdiff_t rows, width, across, chunks; /* across: chunks side by side in a row of the image */
} Cut;

/* One chunk's neurons. In scratch arrays its rows lie `width` of the cut apart. */
typedef struct {
    ptrdiff_t begin, n, pooled; /* first neuron; values in a row, fewer at the end; where its windows' means begin */
} Chunk;

static Cut cut_of(const Population *p) {
    if (p->pool == 1) {
        const ptrdiff_t width = chunk_of(p->channels);
        return (Cut){1, width, 1, (p->neurons + width - 1) / width};
    }
    const ptrdiff_t window = p->pool * p->channels, windows = 2 * CHUNK / (p->pool * window);
    const ptrdiff_t width = window * (windows > 1 ? windows : 1), across = (p->row + width - 1) / width;
    return (Cut){p->pool, width, across, p->neurons / (p->pool * p->row) * across};
}

static Chunk chunk_at(const Population *p, const Cut *cut, ptrdiff_t index) {
    if (p->pool == 1) {
        const ptrdiff_t begin = index * cut->width, left = p->neurons - begin;
        return (Chunk){begin, left < cut->width ? left : cut->width, 0};
    }
    const ptrdiff_t group = index / cut->across * p->pool * p->row, column = index % cut->across * cut->width;
    const ptrdiff_t left = p->row - column;
    return (Chunk){group + column, left < cut->width ? left : cut->width, group / (p->pool * p->pool) + column / p->pool};
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

/* Spikes of a chunk to their means over windows; `sum` is for scratch. */
static void pool_spikes(const Real *restrict spikes, float *restrict sum, Real *restrict out, const Population *p,
                        const Cut *cut, const Chunk *chunk) {
    const ptrdiff_t channels = p->channels, window = p->pool * channels, n = chunk->n;
    const float area = p->pool * p->pool;
    for (ptrdiff_t i = 0; i < n; i++) sum[i] = load(spikes[i]);
    for (ptrdiff_t r = 1; r < cut->rows; r++)
        for (ptrdiff_t i = 0; i < n; i++) sum[i] += load(spikes[r * cut->width + i]);
    for (ptrdiff_t from = 0; from < n; from += window, out += channels) {
        for (ptrdiff_t i = channels; i < window; i += channels)
            for (ptrdiff_t c = 0; c < channels; c++) sum[from + c] += sum[from + i + c];
        for (ptrdiff_t c = 0; c < channels; c++) out[c] = store(sum[from + c] / area);
    }
}

/* Its gradient. */
static void unpool(const Real *restrict grad, Real *restrict out, const Population *p, const Cut *cut, const Chunk *chunk) {
    const ptrdiff_t channels = p->channels, window = p->pool * channels;
    const float area = p->pool * p->pool;
    for (ptrdiff_t from = 0; from < chunk->n; from += window, grad += channels) {
        for (ptrdiff_t c = 0; c < channels; c++) out[from + c] = store(load(grad[c]) / area);
        for (ptrdiff_t i = channels; i < window; i += channels)
            memcpy(out + from + i, out + from, channels * sizeof *out);
    }
    for (ptrdiff_t r = 1; r < cut->rows; r++) memcpy(out + r * cut->width, out, chunk->n * sizeof *out);
}

/* What each thread works with; arrays of a chunk's length, u of `steps` times that. */
typedef struct {
    float *v, *sum, *sum_a, *sum_b, *repeat_a, *repeat_b, *u;
    Real *spikes;
} Scratch;

static float *scratch_for(Scratch *s, const Term *a, const Term *b, const Population *p, const Cut *cut, ptrdiff_t steps) {
    const ptrdiff_t length = cut->rows * cut->width;
    float *block = malloc((11 + steps) * length * sizeof *block);
    if (!block) return NULL;
    *s = (Scratch){block, block + length, block + 2 * length, block + 3 * length, block + 4 * length, block + 7 * length,
                   block + 11 * length, (Real *)(block + 10 * length)};
    repeat_term(s->repeat_a, a, p->channels, length);
    repeat_term(s->repeat_b, b, p->channels, length);
    return block;
}

/* Fetch the n values that follow, the next chunk's: a chunk is short, too short for the processor to see what comes. */
ALWAYS_INLINE void prefetch(const Real *values, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += 64 / sizeof *values) __builtin_prefetch(values + n + i);
}

/* One chunk over all steps: its spikes go to `out`, or if that is NULL, u stays in the scratch space. */
ALWAYS_INLINE void walk(int normed, int second, const Term *a, const Term *b, const Population *p, const Cut *cut,
                        const Chunk *chunk, const Scratch *scratch, Real *out) {
    const float decay = p->decay, threshold = p->threshold;
    const ptrdiff_t length = cut->rows * cut->width;
    memset(scratch->v, 0, length * sizeof(float));
    for (ptrdiff_t t = 0; t < p->steps; t++) {
        for (ptrdiff_t r = 0; r < cut->rows; r++) {
            const ptrdiff_t from = chunk->begin + r * p->row, to = r * cut->width;
            const Real *x = a->x + t * a->stride + from, *y = second ? b->x + t * b->stride + from : NULL;
            const float *of_a = scratch->repeat_a + to, *of_b = scratch->repeat_b + to;
            float *v = scratch->v + to, *u_t = scratch->u + t * length + to;
            Real *s = p->pool > 1 ? scratch->spikes + to : out + t * p->neurons + from;
            prefetch(x, chunk->n);
            if (second) prefetch(y, chunk->n);
            if (out && p->pool == 1) prefetch(s, chunk->n);
#pragma omp simd
            for (ptrdiff_t i = 0; i < chunk->n; i++) {
                float current = value(normed, load(x[i]), of_a, length, i);
                if (second) current += value(second == 2, load(y[i]), of_b, length, i);
                const float u = v[i] * decay + current;
                if (out) s[i] = u > threshold ? store(1.0f) : store(0.0f);
                else u_t[i] = u;
                v[i] = u > threshold ? 0.0f : u;
            }
        }
        if (out && p->pool > 1)
            pool_spikes(scratch->spikes, scratch->sum, out + t * p->neurons / (p->pool * p->pool) + chunk->pooled, p, cut, chunk);
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

int lif_forward(const Term *a, const Term *b, const Population *p, Real *spikes, int threads) {
    const Cut cut = cut_of(p);
    int failed = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
    for (ptrdiff_t part = 0; part < PARTS; part++) {
        const ptrdiff_t first = part_begin(cut.chunks, part), last = part_begin(cut.chunks, part + 1);
        if (first == last) continue;
        Scratch scratch;
        float *block = scratch_for(&scratch, a, b, p, &cut, 0);
        if (!block) { failed = 1; continue; }
        for (ptrdiff_t index = first; index < last; index++) {
            const Chunk chunk = chunk_at(p, &cut, index);
#define FORWARD(normed, second) walk(normed, second, a, b, p, &cut, &chunk, &scratch, spikes)
            DISPATCH(FORWARD);
        }
        free(block);
    }
    return failed;
}

/* One chunk from the last step to the first; u is known. Adds up, over steps, the gradient of I and its products with
   x - mean of each term. */
ALWAYS_INLINE void walk_back(int normed, int second, int once, const Term *a, const Term *b, const Population *p,
                             const Cut *cut, const Chunk *chunk, const Scratch *scratch, const Real *grad_spikes,
                             Real *grad) {
    const float decay = p->decay, threshold = p->threshold, gamma = p->gamma;
    const float inverse = (float)(1.0 / ((double)gamma * gamma));
    const ptrdiff_t length = cut->rows * cut->width;
    memset(scratch->v, 0, length * sizeof(float)); /* the gradient of v */
    memset(scratch->sum, 0, 3 * length * sizeof(float));
    for (ptrdiff_t t = p->steps - 1; t >= 0; t--) {
        if (p->pool > 1) {
            const Real *pooled = grad_spikes + t * p->neurons / (p->pool * p->pool) + chunk->pooled;
            prefetch(pooled, chunk->n / p->pool);
            unpool(pooled, scratch->spikes, p, cut, chunk);
        }
        for (ptrdiff_t r = 0; r < cut->rows; r++) {
            const ptrdiff_t from = chunk->begin + r * p->row, to = r * cut->width;
            const Real *x = a->x + t * a->stride + from, *y = second ? b->x + t * b->stride + from : NULL;
            const float *mean_a = scratch->repeat_a + to, *mean_b = scratch->repeat_b + to;
            const float *u_t = scratch->u + t * length + to;
            const Real *grad_s = p->pool > 1 ? scratch->spikes + to : grad_spikes + t * p->neurons + from;
            Real *g = grad + t * p->neurons + from;
            float *grad_v = scratch->v + to;
            if (p->pool == 1) prefetch(grad_s, chunk->n);
            if (!once) prefetch(g, chunk->n);
            float *sum = scratch->sum + to, *sum_a = scratch->sum_a + to, *sum_b = scratch->sum_b + to;
#pragma omp simd
            for (ptrdiff_t i = 0; i < chunk->n; i++) {
                const float u = u_t[i], triangle = gamma - fabsf(u - threshold);
                const float surrogate = (triangle > 0.0f ? triangle : 0.0f) * inverse;
                const float grad_u = (load(grad_s[i]) - grad_v[i] * u) * surrogate + (u > threshold ? 0.0f : grad_v[i]);
                grad_v[i] = grad_u * decay;
                if (!once) g[i] = store(grad_u);
                if (normed) {
                    sum[i] += grad_u;
                    sum_a[i] += grad_u * (load(x[i]) - mean_a[i]);
                }
                if (second == 2) sum_b[i] += grad_u * (load(y[i]) - mean_b[i]);
            }
        }
    }
    for (ptrdiff_t r = 0; once && r < cut->rows; r++)
        for (ptrdiff_t i = 0; i < chunk->n; i++)
            grad[chunk->begin + r * p->row + i] = store(scratch->sum[r * cut->width + i]);
}

static void add_up(double *to, const float *from, ptrdiff_t channels, ptrdiff_t length) {
    for (ptrdiff_t i = 0; i < length; i += channels)
        for (ptrdiff_t c = 0; c < channels; c++) to[c] += from[i + c];
}

/* sums [3, channels]: of the gradient of I, and of its products with x - mean of each term; NULL if nothing is normed.
   grad [steps, neurons], or [neurons] summed over steps if `once`. */
int lif_backward(const Term *a, const Term *b, const Population *p, const Real *grad_spikes, Real *grad, int once, double *sums,
                 int threads) {
    const Cut cut = cut_of(p);
    const ptrdiff_t length = cut.rows * cut.width, channels = p->channels;
    double *parts = sums ? calloc(PARTS * 3 * channels, sizeof *parts) : NULL;
    int failed = sums && !parts;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
    for (ptrdiff_t part = 0; part < PARTS; part++) {
        const ptrdiff_t first = part_begin(cut.chunks, part), last = part_begin(cut.chunks, part + 1);
        if (first == last || (sums && !parts)) continue;
        Scratch scratch;
        float *block = scratch_for(&scratch, a, b, p, &cut, p->steps);
        if (!block) { failed = 1; continue; }
        for (ptrdiff_t index = first; index < last; index++) {
            const Chunk chunk = chunk_at(p, &cut, index);
#define BACKWARD(normed, second)                                                                                   \
    do {                                                                                                           \
        walk(normed, second, a, b, p, &cut, &chunk, &scratch, NULL);                                               \
        if (once) walk_back(normed, second, 1, a, b, p, &cut, &chunk, &scratch, grad_spikes, grad);                \
        else walk_back(normed, second, 0, a, b, p, &cut, &chunk, &scratch, grad_spikes, grad);                     \
    } while (0)
            DISPATCH(BACKWARD);
            if (parts) {
                double *to = parts + part * 3 * channels;
                add_up(to, scratch.sum, channels, length);
                add_up(to + channels, scratch.sum_a, channels, length);
                if (b->mean) add_up(to + 2 * channels, scratch.sum_b, channels, length);
            }
        }
        free(block);
    }
    for (ptrdiff_t i = 0; sums && !failed && i < 3 * channels; i++) {
        sums[i] = 0.0;
        for (ptrdiff_t part = 0; part < PARTS; part++) sums[i] += parts[part * 3 * channels + i];
    }
    free(parts);
    return failed;
}

/* Mean and biased variance of each channel of x [rows, channels], in double. Differences to the first row are summed: values
   far from zero would cancel. */
int statistics(const Real *x, ptrdiff_t rows, ptrdiff_t channels, double *mean, double *variance, int threads) {
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
        for (ptrdiff_t i = 0; i < length; i++) origin[i] = load(x[i % channels]);
        for (ptrdiff_t chunk = first; chunk < last; chunk++) {
            const ptrdiff_t begin = chunk * length, n = size - begin < length ? size - begin : length;
            for (ptrdiff_t i = 0; i < n; i++) {
                const double difference = (double)load(x[begin + i]) - origin[i];
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
        mean[c] = load(x[c]) + sum / rows;
        variance[c] = fmax(0.0, (squares - sum / rows * sum) / rows);
    }
    free(parts);
    return failed;
}

/* out = scale * (grad - offset - (x - mean) * slope), per channel, over [rows, channels]; out may be grad. */
int norm_backward(const Real *grad, const Real *x, const float *mean, const float *scale, const float *offset,
                  const float *slope, Real *out, ptrdiff_t rows, ptrdiff_t channels, int threads) {
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
                out[begin + i] = store(k[i] * (load(grad[begin + i]) - o[i] - (load(x[begin + i]) - m[i]) * d[i]));
        }
        free(m);
    }
    return failed;
}
