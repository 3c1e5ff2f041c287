// One token through a decoder-only transformer: all layers in one call.
//
// At batch 1 a step reads every weight once and does two operations with it, so memory sets the pace, and what is left
// to do is to keep everything else out of its way. All the arithmetic is the product of product.h. The four matrices of
// a layer are panels, and so are its keys, whose rows are tokens, and its values, whose columns are:
//
//     keys     (B, kv_heads) panels of max_length rows and head_dim columns
//     values   (B, kv_heads) panels of head_dim rows and max_length columns
//     x        (B, width), mixed (B, (heads + 2 kv_heads) head_dim), hidden (B, feedforward): float32
//
// Softmax is taken to the base 2: the caller has put log2 e / sqrt(head_dim) into the queries' rows, and log2 e into the
// bias. A layer with a window attends to what lies within so many frames of the newest token in time (window.py): which
// blocks of tokens hold any of that is looked up once a step.
// The caller pads every width to a multiple of 16 with zeros, which change nothing. Every thread does its share of the
// rows of a matrix, and of the tokens in attention; the small work between is done by all of them alike, so that five
// barriers a layer are enough. A row's result doesn't depend on what else is in the batch.
//
// Source: Dao et al. 2023, "Flash-Decoding for long-context inference", for splitting attention along the tokens.

#include <atomic>
#include <thread>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "product.h"

namespace {

constexpr long CHUNK = 256;       // most tokens that attention takes at a time
constexpr float UNSEEN = -1e30f;  // score of a token that may not be seen
constexpr float LOG2_E = 1.44269504f;

// ---- The model and the step, as the caller (decoder.py) lays them out ----

struct Matrix { const void* panel; const float* scales; int64_t rows, columns; };  // scales (rows), 8 bits alone
struct Layer {
    Matrix mix, out, up, down;
    void *keys, *values;
    float *key_scales, *value_scales;
    int64_t windowed;
};
struct Model {
    int64_t width, heads, kv_heads, head_dim, feedforward, max_length, depth, gated, eight_bits, window;
    const float* embedding;  // (ids, width)
    const float* bias;       // (heads, max_length + lanes): of the key max_length - 1 - i tokens back; or null
    const Layer* layers;     // `up` of a gated one: a block of the gate, a block of up, and so on
    Matrix head;
};
struct Step {
    int64_t batch, place, threads, turns, pairs;  // place: the token's number; turns: rows of `rotation`, `times`
    const int64_t *ids, *starts;                  // (B), and the first token that each row may see
    const float* rotation;                        // (turns, pairs, 2) of a head's first 2 * pairs numbers, or null
    const float* times;                           // (turns, max_length) of all tokens, for windows
    float* state;                                 // (B, rows of the head)
};

struct Barrier {
    std::atomic<long> arrived{0}, turn{0};
    void wait(long threads) {
        const long now = turn.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
            arrived.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
        }
        for (long spins = 0; turn.load(std::memory_order_acquire) == now; spins++)
            if (spins > 10000) std::this_thread::yield();
    }
};

struct Run { long first, count; };  // blocks of as many tokens as lanes, that follow each other
struct View {                       // what a row's newest token sees
    std::vector<Run> runs;
    long blocks;         // in all of them
    const float* times;  // of all tokens, or null where there is no window
};
struct Shared { Room x, mixed, hidden, peaks, totals, attended; };
struct Desk {  // what a thread has to itself
    Tray tray, weights;
    Room turned, scores, merged;
    std::vector<View> views;  // (B, 2): of everything, and through the window
};

inline long share(long count, long thread, long threads) { return count * thread / threads; }

template <class W> struct Work {
    const Model& m;
    const Step& s;
    const long dim, group, wide;
    float *x, *mixed, *hidden;             // (B, width), (B, wide or twice feedforward), (B, feedforward)
    float *peaks, *totals, *attended;      // (threads, B, heads), (threads, B, heads), (threads, B, heads, dim)
    Barrier& barrier;
    Desk& desk;
    const long thread, threads;

    Vectors vectors(const float* from, long columns, bool unit = false) {
        return ready<W>(desk.tray, from, s.batch, columns, unit);
    }

    // This thread's rows of a matrix, in whole groups of blocks.
    void multiply(const Matrix& matrix, const Vectors& in, const Out& out, long together = 1) {
        const long groups = matrix.rows / LANES / together;
        product(Panel<W>{(const W*)matrix.panel, matrix.scales, matrix.columns},
                share(groups, thread, threads) * together, share(groups, thread + 1, threads) * together, in, s.batch,
                out);
    }

    // What each row's newest token sees, of everything and through a window.
    void look() {
        desk.views.resize(2 * s.batch);
        for (long b = 0; b < s.batch; b++) {
            const long oldest = s.starts[b] / LANES, newest = s.place / LANES;
            View &whole = desk.views[2 * b], &inside = desk.views[2 * b + 1];
            whole.runs.assign(1, {oldest, newest + 1 - oldest});
            whole.blocks = newest + 1 - oldest;
            whole.times = nullptr;
            if (!m.window) continue;
            inside.runs.clear();
            inside.blocks = 0;
            inside.times = s.times + (s.turns > 1 ? b * m.max_length : 0);
            for (long block = oldest; block <= newest; block++) {
                if (largest(near(inside.times, block * LANES, Floats{}) + 1) <= 0) continue;
                if (inside.runs.empty() || inside.runs.back().first + inside.runs.back().count < block)
                    inside.runs.push_back({block, 0});
                inside.runs.back().count++;
                inside.blocks++;
            }
        }
    }

    // Scores of a block of tokens from `first` on, less those outside the window.
    Floats near(const float* times, long first, Floats scores) {
        const Floats apart = load<Floats>(times + first) - times[s.place];
        return larger(apart, -apart) <= (float)m.window ? scores : Floats{} + UNSEEN;
    }

    void layer(const Layer& layer) {
        multiply(layer.mix, vectors(x, m.width, true), {mixed, wide, false});
        barrier.wait(threads);
        turn();
        if (thread == threads - 1) remember(layer);  // it is the one that reads the newest tokens
        for (long b = 0; b < s.batch; b++)
            for (long kv = 0; kv < m.kv_heads; kv++) attend(layer, b, kv);
        barrier.wait(threads);
        multiply(layer.out, vectors(merged(), m.heads * dim), {x, m.width, true});
        barrier.wait(threads);
        feed(layer.up);
        barrier.wait(threads);
        multiply(layer.down, vectors(hidden, m.feedforward), {x, m.width, true});
        barrier.wait(threads);
    }

    // Queries and keys, turned to their place: (B, heads + kv_heads, dim).
    void turn() {
        const long heads = m.heads + m.kv_heads;
        float* to = desk.turned.floats(s.batch * heads * dim);
        for (long b = 0; b < s.batch; b++)
            for (long h = 0; h < heads; h++, to += dim) {
                const float* from = mixed + b * wide + h * dim;
                std::copy(from, from + dim, to);
                if (!s.rotation) continue;
                const float* by = s.rotation + (s.turns > 1 ? b * s.pairs * 2 : 0);
                for (long i = 0; i < 2 * s.pairs; i += 2) {
                    to[i] = from[i] * by[i] - from[i + 1] * by[i + 1];
                    to[i + 1] = from[i] * by[i + 1] + from[i + 1] * by[i];
                }
            }
    }

    // Keep the new token's keys and values.
    void remember(const Layer& layer) {
        for (long b = 0; b < s.batch; b++)
            for (long kv = 0; kv < m.kv_heads; kv++) {
                const long start = (b * m.kv_heads + kv) * m.max_length;
                const float* key = desk.turned.floats(0) + (b * (m.heads + m.kv_heads) + m.heads + kv) * dim;
                const float* value = mixed + b * wide + (m.heads + m.kv_heads + kv) * dim;
                put((W*)layer.keys + start * dim, layer.key_scales + start + s.place, key,
                    [&](long d) { return at<W>(s.place, d, dim); });
                put((W*)layer.values + start * dim, layer.value_scales + start + s.place, value,
                    [&](long d) { return at<W>(d, s.place, m.max_length); });
            }
    }

    template <class Place> void put(W* panel, float* scale, const float* x, Place place) {
        const Vectors v = ready<W>(desk.weights, x, 1, dim);
        for (long d = 0; d < dim; d++) panel[place(d)] = v.bytes ? (W)(v.bytes[d] + 128) : (W)x[d];
        if (v.bytes) *scale = v.scales[0];
    }

    // This thread's share of the tokens, for the queries that share a key: sums that `merged` brings together.
    void attend(const Layer& layer, long b, long kv) {
        const long slot = (thread * s.batch + b) * m.heads + kv * group, start = (b * m.kv_heads + kv) * m.max_length;
        std::fill_n(peaks + slot, group, UNSEEN);
        std::fill_n(totals + slot, group, 0.0f);
        std::fill_n(attended + slot * dim, group * dim, 0.0f);
        const View& view = desk.views[2 * b + layer.windowed];
        long skip = share(view.blocks, thread, threads), left = share(view.blocks, thread + 1, threads) - skip;
        const float* queries = desk.turned.floats(0) + (b * (m.heads + m.kv_heads) + kv * group) * dim;
        const Vectors asked = ready<W>(desk.tray, queries, group, dim);
        float* scores = desk.scores.floats(group * CHUNK);
        const Panel<W> keys{(W*)layer.keys + start * dim, layer.key_scales ? layer.key_scales + start : nullptr, dim};
        for (const Run& run : view.runs) {
            const long begin = (run.first + std::min(skip, run.count)) * LANES;
            const long end = std::min(begin + left * LANES, (run.first + run.count) * LANES);
            skip -= begin / LANES - run.first, left -= (end - begin) / LANES;
            for (long first = begin; first < end; first += CHUNK) {
                const long count = std::min(CHUNK, end - first);
                const Vectors weights = desk.weights.vectors<W>(scores, group, count);
                product(keys, first / LANES, (first + count) / LANES, asked, group, {scores - first, count, false});
                for (long g = 0; g < group; g++) {
                    const float* scales = layer.value_scales ? layer.value_scales + start + first : nullptr;
                    float top;
                    const float fade = soften(scores + g * count, first, count, b, kv * group + g, slot + g, scales,
                                              view.times, top);
                    if (weights.bytes) weights.round(g, scores + g * count, top);
                    float* to = attended + (slot + g) * dim;
                    if (fade != 1) for (long d = 0; d < dim; d++) to[d] *= fade;
                }
                const Panel<W> values{(W*)layer.values + start * dim + first * LANES, nullptr, m.max_length};
                product(values, 0, dim / LANES, weights, group,
                        {attended + slot * dim, dim, true});
            }
        }
    }

    // Scores of tokens `first` on to weights, times the values' scales, the largest of which is `top`; how much earlier
    // weights shrink by it.
    float soften(float* scores, long first, long count, long b, long head, long slot, const float* scales,
                 const float* times, float& top) {
        Floats highest = Floats{} + UNSEEN, sums = {}, tops = {};
        for (long i = 0; i < count; i += LANES) {
            Floats v = load<Floats>(scores + i);
            const bool cut = first + i < s.starts[b] || first + i + LANES > s.place + 1;
            if (m.bias)
                v += load<Floats>(m.bias + head * (m.max_length + LANES) + m.max_length - 1 - s.place + first + i);
            if (cut)
                for (long k = 0; k < LANES; k++)
                    if (first + i + k < s.starts[b] || first + i + k > s.place) v[k] = UNSEEN;
            if (times) v = near(times, first + i, v);
            if (cut || m.bias || times) store(scores + i, v);
            highest = larger(highest, v);
        }
        const float before = peaks[slot], peak = std::max(before, largest(highest));
        const float fade = peak > before ? std::exp2(before - peak) : 1;
        for (long i = 0; i < count; i += LANES) {
            Floats v = two_to(load<Floats>(scores + i) - peak);
            sums += v;
            if (scales) v *= load<Floats>(scales + i);
            tops = larger(tops, v);
            store(scores + i, v);
        }
        peaks[slot] = peak;
        totals[slot] = totals[slot] * fade + sum(sums);
        top = largest(tops);
        return fade;
    }

    // What all threads' shares come to: (B, heads, dim).
    const float* merged() {
        const long heads = s.batch * m.heads;
        float* to = desk.merged.floats(heads * dim);
        for (long h = 0; h < heads; h++) {
            float highest = UNSEEN, total = 0;
            for (long t = 0; t < threads; t++) highest = std::max(highest, peaks[t * heads + h]);
            for (long t = 0; t < threads; t++)
                total += totals[t * heads + h] * std::exp2(peaks[t * heads + h] - highest);
            for (long t = 0; t < threads; t++) {
                const float part = std::exp2(peaks[t * heads + h] - highest) / total;
                const float* from = attended + (t * heads + h) * dim;
                for (long d = 0; d < dim; d++) to[h * dim + d] = (t ? to[h * dim + d] : 0) + part * from[d];
            }
        }
        return to;
    }

    // This thread's share of the hidden units: SwiGLU of gate and up, or ReLU.
    void feed(const Matrix& up) {
        const long gates = m.gated ? 2 : 1, blocks = m.feedforward / LANES;
        multiply(up, vectors(x, m.width, true), {mixed, gates * m.feedforward, false}, gates);
        for (long b = 0; b < s.batch; b++)
            for (long i = share(blocks, thread, threads); i < share(blocks, thread + 1, threads); i++) {
                const float* from = mixed + (b * blocks + i) * gates * LANES;
                const Floats v = load<Floats>(from), small = two_to(larger(v, -v) * -LOG2_E);
                const Floats open = (v > 0.0f ? Floats{} + 1.0f : small) / (small + 1.0f);
                store(hidden + (b * blocks + i) * LANES,
                      m.gated ? v * open * load<Floats>(from + LANES) : larger(v, Floats{}));
            }
    }
};

template <class W> void step(const Model& m, const Step& s) {
    static thread_local Shared shared;
    const long dim = m.head_dim, wide = (m.heads + 2 * m.kv_heads) * dim, slots = s.threads * s.batch * m.heads;
    float *x = shared.x.floats(s.batch * m.width), *hidden = shared.hidden.floats(s.batch * m.feedforward);
    float *mixed = shared.mixed.floats(s.batch * std::max<long>(wide, 2 * m.feedforward));
    float *peaks = shared.peaks.floats(slots), *totals = shared.totals.floats(slots);
    float *attended = shared.attended.floats(slots * dim);
    for (long b = 0; b < s.batch; b++) std::copy_n(m.embedding + s.ids[b] * m.width, m.width, x + b * m.width);
    Barrier barrier;
#if defined(_OPENMP)
#pragma omp parallel num_threads(s.threads)
#endif
    {
        static thread_local Desk desk;
#if defined(_OPENMP)
        const long thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
        const long thread = 0, threads = 1;
#endif
        Work<W> work{m, s, dim, m.heads / m.kv_heads, wide, x, mixed, hidden, peaks, totals, attended, barrier, desk,
                     thread, threads};
        work.look();
        for (long i = 0; i < m.depth; i++) work.layer(m.layers[i]);
        work.multiply(m.head, work.vectors(x, m.width, true), {s.state, m.head.rows, false});
    }
}

}  // namespace

extern "C" {

// Read one more token a row.
void segue_step(const Model* model, const Step* s) {
    model->eight_bits ? step<uint8_t>(*model, *s) : step<float>(*model, *s);
}

// Blocks `begin` to `end` of a matrix times x (count, columns) into y (count, lanes * (end - begin)), in this thread.
void segue_rows(const Matrix* matrix, int64_t eight_bits, int64_t begin, int64_t end, const float* x, int64_t count,
                float* y) {
    static thread_local Tray tray;
    const Out out{y - begin * LANES, (end - begin) * LANES, false};
    const long columns = matrix->columns;
    if (eight_bits)
        product(Panel<uint8_t>{(const uint8_t*)matrix->panel, matrix->scales, columns}, begin, end,
                ready<uint8_t>(tray, x, count, columns), count, out);
    else
        product(Panel<float>{(const float*)matrix->panel, nullptr, columns}, begin, end,
                ready<float>(tray, x, count, columns), count, out);
}

// How 8 bits are multiplied: 2 by an instruction of their own, 1 by a pair of older ones, 0 by plain arithmetic.
int64_t segue_dot() {
#if (defined(__AVX512VNNI__) && VECTOR == 64) || (defined(__AVXVNNI__) && VECTOR == 32)
    return 2;
#elif defined(__SSE2__)
    return 1;
#else
    return 0;
#endif
}

// Rows of a panel's block.
int64_t segue_lanes() { return LANES; }

// Whether a step can use several threads.
int64_t segue_parallel() {
#if defined(_OPENMP)
    return 1;
#else
    return 0;
#endif
}
}
