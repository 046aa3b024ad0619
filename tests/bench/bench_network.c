/* Times whole networks on one thread, as commands on stdin ask for: so that a script can let this
 * engine and another take turns in one run.
 *
 *   isa NAME             → ok NAME           for what is loaded from now on: the highest up to it
 *   load f32|int8|taps FILE → ok ID          taps: f32, every convolution tap by tap
 *   run ID SECONDS       → BEST RUNS         the shortest run in µs, and how many there were
 *   steps ID RUNS        → µs OUTPUT lines, then .   the shortest time of each step
 *   peak                 → S8_GOPS F32_GFLOPS GHZ
 *
 * Every answer that is not one of these begins with "error". Inputs are fixed numbers in [-1, 1].
 * Times are CPU time of the thread: other programs do not count, their traces in the caches do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/exec/exec_winograd.h"
#include "quantcore/qc_model.h"
#include "quantcore/quantcore.h"
#include "tests/bench/peaks.h"

enum { NETWORKS_MOST = 64, LINE = 4096, IO_MOST = 16 };

struct network {
    struct qd_arena arena;
    struct qd_bytes model;
    enum qc_engine engine;
    enum qc_isa isa;
    struct qc_runner *runner;
    float *inputs[IO_MOST], *outputs[IO_MOST];
};
static struct network networks[NETWORKS_MOST];
static int n_networks;
static enum qc_isa isa = QC_ISA_AVX512;
static struct qd_error err;
static bool by_taps; /* of the network that is loaded */

/* The linker puts this in the place of qc_winograd_suits. */
bool __real_qc_winograd_suits(const struct qc_window *window, int channels, int outputs, int group,
                              const struct qc_shape *out);
bool __wrap_qc_winograd_suits(const struct qc_window *window, int channels, int outputs, int group,
                              const struct qc_shape *out);
bool __wrap_qc_winograd_suits(const struct qc_window *window, int channels, int outputs, int group,
                              const struct qc_shape *out)
{
    return !by_taps && __real_qc_winograd_suits(window, channels, outputs, group, out);
}

/* Elements of one sample: the first dim is the batch. */
static size_t elements(const struct qc_io_info *io)
{
    size_t n = 1;
    for (int d = 1; d < io->rank; d++) {
        n *= io->dim[d] > 0 ? (size_t)io->dim[d] : 1;
    }
    return n;
}

static float *numbers(size_t n)
{
    float *x = calloc(n + 16, sizeof(float));
    uint32_t state = 1;
    for (size_t i = 0; x != NULL && i < n; i++) {
        state = state * 1664525U + 1013904223U;
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return x;
}

static bool read_file(const char *path, struct qd_bytes *ret)
{
    FILE *f = fopen(path, "rb");
    long size = -1;
    uint8_t *data = NULL;
    if (f != NULL && fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) > 0) {
        rewind(f);
        data = malloc((size_t)size);
    }
    bool good = data != NULL && fread(data, 1, (size_t)size, f) == (size_t)size;
    if (f != NULL) {
        (void)fclose(f);
    }
    *ret = (struct qd_bytes){data, good ? (size_t)size : 0};
    return good;
}

static void load(const char *engine, const char *path)
{
    struct network *n = &networks[n_networks];
    if (n_networks == NETWORKS_MOST || !read_file(path, &n->model)) {
        printf("error cannot read %s as network %d of %d\n", path, n_networks, NETWORKS_MOST);
        return;
    }
    n->engine = strcmp(engine, "int8") == 0 ? QC_ENGINE_INT8 : QC_ENGINE_F32;
    n->isa = isa;
    by_taps = strcmp(engine, "taps") == 0;
    qd_arena_init(&n->arena, 0);
    if (qc_runner_new(n->model, NULL, n->engine, isa, &n->arena, &n->runner, &err) != QD_OK) {
        printf("error %s\n", err.message);
        return;
    }
    const struct qc_model_info *info = qc_runner_info(n->runner);
    if (info->n_inputs > IO_MOST || info->n_outputs > IO_MOST) {
        printf("error %d inputs and %d outputs, %d are the most\n", info->n_inputs,
               info->n_outputs, IO_MOST);
        return;
    }
    for (int i = 0; i < info->n_inputs; i++) {
        n->inputs[i] = numbers(elements(&info->inputs[i]));
    }
    for (int i = 0; i < info->n_outputs; i++) {
        n->outputs[i] = numbers(elements(&info->outputs[i]));
    }
    printf("ok %d\n", n_networks++);
}

static void run(struct network *n, double seconds)
{
    double best = INFINITY, start = bench_cpu_now(), now = start;
    long runs = 0;
    for (; runs < 2 || now - start < seconds; runs++) {
        double from = now;
        if (qc_runner_run(n->runner, (const float *const *)n->inputs, n->outputs, &err) !=
            QD_OK) {
            printf("error %s\n", err.message);
            return;
        }
        now = bench_cpu_now();
        best = fmin(best, now - from);
    }
    printf("%.3f %ld\n", best * 1e6, runs);
}

/* The shortest time from the value before to this one, in the order of the run. */
struct steps {
    double last, best[4096];
    int value[4096], n;
};

static void step_done(void *ctx, int value, const struct qc_view *view)
{
    struct steps *s = ctx;
    double now = bench_cpu_now();
    (void)view;
    if (s->n < (int)QD_COUNT_OF(s->best)) {
        s->best[s->n] = s->best[s->n] > 0 ? fmin(s->best[s->n], now - s->last) : now - s->last;
        s->value[s->n++] = value;
    }
    s->last = bench_cpu_now();
}

static enum qd_code steps(struct network *n, long runs)
{
    static struct steps s;
    struct qc_graph *g;
    struct qc_exec *exec;
    struct qc_exec_state *state;
    struct qc_kernels kernels;
    struct qc_exec_options options = {.kernels = &kernels};
    qc_kernels_init(&kernels, n->isa);
    if (n->engine == QC_ENGINE_INT8) {
        QD_TRY(qc_model_load_int8(n->model, NULL, &kernels, &n->arena, &g, &exec, NULL, &err));
    } else {
        QD_TRY(qc_model_load_f32(n->model, NULL, &n->arena, &g, &err));
        QD_TRY(qc_exec_build(g, &options, &n->arena, &exec, &err));
    }
    QD_TRY(qc_exec_state_new(exec, &state, &err));
    memset(&s, 0, sizeof(s));
    for (long r = 0; r < runs; r++) {
        s.n = 0;
        s.last = bench_cpu_now();
        QD_TRY(qc_exec_run(exec, state, (const void *const *)n->inputs, step_done, &s, &err));
    }
    for (int i = 0; i < s.n; i++) {
        printf("%.2f %s\n", s.best[i] * 1e6, g->values[s.value[i]].name);
    }
    printf(".\n");
    qc_exec_state_free(state);
    return QD_OK;
}

static struct network *find(const char *id)
{
    char *end;
    long i = strtol(id, &end, 10);
    if (end == id || i < 0 || i >= n_networks) {
        printf("error no network %s\n", id);
        return NULL;
    }
    return &networks[i];
}

static void command(char *line)
{
    char *save, *word[3] = {0};
    for (int i = 0; i < 3; i++) {
        word[i] = strtok_r(i == 0 ? line : NULL, i < 2 ? " \n" : "\n", &save);
    }
    if (word[0] != NULL && strcmp(word[0], "peak") == 0) {
        enum qc_isa best = qc_isa_detect();
        printf("%.1f %.1f %.3f\n", bench_peak(best, true), bench_peak(best, false), bench_ghz());
    } else if (word[0] != NULL && word[1] != NULL && strcmp(word[0], "isa") == 0 &&
               qc_isa_from_name(word[1], &isa)) {
        printf("ok %s\n", word[1]);
    } else if (word[2] == NULL) {
        printf("error an unknown command, or too few words\n");
    } else if (strcmp(word[0], "load") == 0) {
        load(word[1], word[2]);
    } else {
        struct network *n = find(word[1]);
        if (n != NULL && strcmp(word[0], "run") == 0) {
            run(n, strtod(word[2], NULL));
        } else if (n != NULL && steps(n, strtol(word[2], NULL, 10)) != QD_OK) {
            printf("error %s\n", err.message);
        }
    }
    (void)fflush(stdout);
}

int main(void)
{
    static char line[LINE];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        command(line);
    }
    return 0;
}
