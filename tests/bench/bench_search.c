/* The search of ranges on the activations of real networks: what is derived from the statistics
 * of two passes beside the naive form, which quantizes every value once for every candidate. Which
 * candidates both choose, how good the chosen is by the naive measure, and what each costs. The
 * next candidate is 0.01 of the range away for the divergences, 1/64 of an end for mse, a bin for
 * entropy.
 * A choice farther away passes only when it is as good: its naive measure within TIE of the least
 * there is, and such ties are counted. Anything else is named, and the exit status is 1 unless it
 * is listed with its reason (LISTED); so it is when a listed choice no longer differs.
 * The example network is part of the repository, its images of a Debian package; the others lie
 * beside the checkout and are skipped, by name, where they do not.
 * Usage: bench_search [-v] [NETWORK] */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "quantcore/calib/observer.h"
#include "tests/lib/activations.h"
#include "tests/lib/data_files.h"
#include "tests/lib/naive_search.h"

#define SETS   "../shared/data"
#define DEBIAN "/usr/share/datasets/fashion-mnist"

static const struct network {
    const char *name, *model, *data;
    struct qc_preprocess preprocess;
    int n_samples, every;
} networks[] = {
    {"fashion-mnist",
     "examples/fashion-mnist/model.onnx",
     DEBIAN "/train-images-idx3-ubyte.gz",
     {.has_scale = true, .scale = 1.0f / 255},
     100,
     5},
    {"resnet20",
     SETS "/golden/resnet20_cifar10/model.onnx",
     SETS "/sets/cifar10_train4k_lossless-images-idx4-ubyte.gz",
     {.has_scale = true,
      .scale = 1.0f / 255,
      .n_mean = 3,
      .mean = {0.485f, 0.456f, 0.406f},
      .n_std = 3,
      .std = {0.229f, 0.224f, 0.225f}},
     24,
     20},
    {"squeezenet",
     SETS "/golden/squeezenet10_dc_imagenet/model.onnx",
     SETS "/imagenet-sample",
     {.crop_height = 227, .crop_width = 227, .bgr = true, .n_mean = 3, .mean = {104, 117, 123}},
     2,
     100},
    {"vww",
     SETS "/golden/mobilenetv1_025_vww/model.onnx",
     SETS "/imagenet-sample",
     {.resize = QC_RESIZE_STRETCH,
      .filter = QC_FILTER_BICUBIC,
      .resize_height = 96,
      .resize_width = 96,
      .has_scale = true,
      .scale = 1.0f / 255},
     20,
     25},
};

static bool verbose;
static struct qc_kernels kernels;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const enum qc_calibrator compared[] = {QC_CALIB_KL, QC_CALIB_SYMMETRIC_KL, QC_CALIB_JS,
                                              QC_CALIB_MSE, QC_CALIB_ENTROPY};
enum { N_COMPARED = 5, MAX_CANDIDATES = 4097 };
static const double TIE = 1.001;

/* Choices that are known to differ: "network scheme tensor calibrator  # why", a line each. */
#define LISTED "tests/bench/bench_search_differs.txt"
enum { MAX_LISTED = 64 };
static struct listed {
    char network[32], scheme[16], tensor[128], calibrator[32];
    bool differs;
} listed[MAX_LISTED];
static int n_listed;

/* Of one calibrator over the tensors of a network. */
struct outcome {
    const char *network, *scheme;
    int n, n_same, n_near, n_tied, n_listed; /* tied: elsewhere, and as good */
    double worst;           /* naive measure of the chosen / the least, elsewhere chosen */
    double fine_s, naive_s; /* seconds */
};

static void read_listed(void)
{
    char line[512];
    FILE *f = fopen(LISTED, "r");
    if (f == NULL) {
        fprintf(stderr, "bench_search: %s: %s\n", LISTED, strerror(errno));
        exit(1);
    }
    while (fgets(line, sizeof(line), f) != NULL) {
        struct listed *l = &listed[n_listed];
        if (line[0] != '#' && line[0] != '\n' &&
            (n_listed == MAX_LISTED || strchr(line, '#') == NULL ||
             sscanf(line, "%31s %15s %127s %31s #", l->network, l->scheme, l->tensor,
                    l->calibrator) != 4)) {
            fprintf(stderr, "bench_search: %s: not a case with its reason: %s", LISTED, line);
            exit(1);
        }
        n_listed += line[0] != '#' && line[0] != '\n';
    }
    fclose(f);
}

static bool is_listed(const struct outcome *o, const char *tensor, const char *calibrator)
{
    for (int i = 0; i < n_listed; i++) {
        struct listed *l = &listed[i];
        if (strcmp(l->network, o->network) == 0 && strcmp(l->scheme, o->scheme) == 0 &&
            strcmp(l->tensor, tensor) == 0 && strcmp(l->calibrator, calibrator) == 0) {
            l->differs = true;
            return true;
        }
    }
    return false;
}

/* What is listed of a network that ran and no longer differs. */
static int count_stale(const char *network)
{
    int n = 0;
    for (int i = 0; i < n_listed; i++) {
        const struct listed *l = &listed[i];
        if (strcmp(l->network, network) == 0 && !l->differs) {
            printf("    %s, %s, %s: listed in %s, but no longer differs\n", l->scheme, l->tensor,
                   l->calibrator, LISTED);
            n++;
        }
    }
    return n;
}

static void note(struct outcome *o, const char *tensor, const char *name, int distance,
                 double chosen, double least)
{
    o->n++;
    o->n_same += distance == 0;
    o->n_near += distance <= 1;
    if (distance <= 1) {
        return;
    }
    bool tied = chosen <= TIE * least;
    bool known = !tied && is_listed(o, tensor, name);
    o->n_tied += tied;
    o->n_listed += known;
    o->worst = fmax(o->worst, chosen / fmax(least, 1e-300));
    if (!tied || verbose) {
        printf("    %s, %s: %d candidates away, %g for %g%s\n", tensor, name, distance, chosen,
               least, tied ? ", a tie" : known ? ", listed" : "");
    }
}

static struct qc_range derive(const struct qc_tensor_statistics *t, enum qc_calibrator c,
                              const struct qc_search *search, struct outcome *o)
{
    struct qc_range range;
    struct qd_error err;
    double start = now();
    if (qc_calibrate(t, c, search, &range, &err) != QD_OK) {
        fprintf(stderr, "bench_search: %s\n", err.message);
        exit(1);
    }
    o->fine_s += now() - start;
    return range;
}

/* ---- one tensor ------------------------------------------------------------------------------
 */

/* As a job's two passes describe samples of that shape. */
static const struct qc_tensor_statistics *describe(const struct activation *a,
                                                   struct qd_arena *arena)
{
    struct qc_observed observed = {a->name, a->shape, a->channel_axis};
    struct qc_observer_options options = {1, 1, 0, 1, 1, 0, &kernels, false, false};
    struct qc_view view = {.dtype = QC_F32, .layout = QC_PLAIN, .shape = a->shape};
    size_t size = qc_shape_elements(&a->shape);
    struct qc_observer *o = NULL;
    struct qc_statistics *s = NULL;
    struct qd_error err;
    options.n_samples = (int64_t)(a->n / size);
    enum qd_code code = qc_observer_new(&observed, 1, &options, arena, &o, &err);
    for (int pass = 1; pass <= 2 && code == QD_OK; pass++) {
        for (size_t i = 0; i < a->n && code == QD_OK; i += size) {
            view.data = a->x + i;
            if (pass == 1) {
                qc_observer_pass1(o, 0, 0, 0, &view);
                code = qc_observer_end_batch(o, 1, 0, &err);
            } else {
                qc_observer_pass2(o, 0, 0, &view);
            }
        }
        code = code != QD_OK ? code
               : pass == 1   ? qc_observer_end_pass1(o, &err)
                             : qc_observer_end_pass2(o, &s, &err);
    }
    if (code != QD_OK) {
        fprintf(stderr, "bench_search: %s\n", err.message);
        exit(1);
    }
    return &s->tensors[0];
}

static void bench_divergences(const struct qc_tensor_statistics *t, const struct naive *s,
                              const struct qc_search *search, struct outcome *o)
{
    static double d[3][MAX_CANDIDATES];
    double start = now();
    naive_divergences(s, (double *const[3]){d[0], d[1], d[2]});
    double spent = now() - start;
    for (int m = 0; m < 3; m++) {
        struct qc_range r = derive(t, compared[m], search, &o[m]);
        int mine = (int)lround((r.ratio - s->start) / s->step);
        int best = naive_best(s, d[m]);
        o[m].naive_s += spent / 3; /* one quantization serves the three */
        note(&o[m], t->name, qc_calibrator_name(compared[m]), abs(mine - best), d[m][mine],
             d[m][best]);
    }
}

static void bench_mse(const struct qc_tensor_statistics *t, const struct naive *s,
                      const struct qc_search *search, struct outcome *o)
{
    double lo = 0, hi = 0, least = 0;
    double start = now();
    naive_mse(s, &lo, &hi, &least);
    o->naive_s += now() - start;
    struct qc_range r = derive(t, QC_CALIB_MSE, search, o);
    /* A candidate of the first grid is 1/64 of an end. */
    double away =
        fmax(lo < 0 ? fabs(r.lo - lo) / -s->lo : 0, hi > 0 ? fabs(r.hi - hi) / s->hi : 0);
    int distance = away == 0 ? 0 : (int)floor(64 * away) + 1;
    note(o, t->name, "mse", distance, naive_error(s, r.lo, r.hi), least);
}

static void bench_entropy(const struct qc_tensor_statistics *t, const struct naive *s,
                          const struct qc_search *search, struct outcome *o)
{
    static double d[MAX_CANDIDATES];
    double start = now();
    double width = 0;
    int best = naive_entropy(s, d, &width);
    o->naive_s += now() - start;
    struct qc_range r = derive(t, QC_CALIB_ENTROPY, search, o);
    double end = fmin(best * width, fmax(-s->lo, s->hi)), mine = fmax(-r.lo, r.hi);
    note(o, t->name, "entropy", (int)lround(fabs(mine - end) / width), r.score, d[best]);
}

/* Both forms see the same values: all of them, but for a range with two ends to search, whose
 * 4,096 candidates would take an hour, every k-th. */
static void bench_tensor(const struct activation *a, bool symmetric, struct outcome *o)
{
    enum { TWO_SIDED_MAX = 20000 };
    struct qd_arena arena;
    struct naive s;
    struct qc_search search = {.min_percentile = 1,
                               .max_percentile = 1,
                               .start = 0.3,
                               .end = 1.7,
                               .step = 0.01,
                               .bins = 150,
                               .symmetric = symmetric};
    qd_arena_init(&arena, 0);
    const struct qc_tensor_statistics *t = describe(a, &arena);
    if (t->min < t->max) {
        naive_init(&s, a->x, a->n, &search);
        bench_divergences(t, &s, &search, o);
        bench_entropy(t, &s, &search, &o[4]);
        float *few = NULL;
        if (!symmetric && t->min < 0 && t->max > 0 && a->n > TWO_SIDED_MAX) {
            size_t stride = a->n / TWO_SIDED_MAX | 1, n = 0;
            few = malloc((a->n / stride + 1) * sizeof(*few));
            for (size_t i = 0; i < a->n; i += stride) {
                few[n++] = a->x[i];
            }
            struct activation of_few = {a->name, {2, {1, (int64_t)n}}, -1, few, n};
            t = describe(&of_few, &arena);
            naive_init(&s, few, n, &search);
        }
        bench_mse(t, &s, &search, &o[3]);
        free(few);
    }
    qd_arena_done(&arena);
}

/* ---- networks --------------------------------------------------------------------------------
 */

static void print_outcomes(const char *network, bool symmetric, const struct outcome *o)
{
    printf("%s, %s, %d tensors\n", network, symmetric ? "symmetric" : "asymmetric", o[0].n);
    for (int i = 0; i < N_COMPARED; i++) {
        char worst[32] = "-";
        if (o[i].n_near < o[i].n) {
            snprintf(worst, sizeof(worst), "%.4f", o[i].worst);
        }
        printf("  %-13s same %2d, same or next %2d of %2d, ties %d, listed %d, worst elsewhere %6s | "
               "a tensor %7.2f ms, naively %9.2f ms | in sum %6.3f s, naively %7.2f s: %5.0f x\n",
               qc_calibrator_name(compared[i]), o[i].n_same, o[i].n_near, o[i].n, o[i].n_tied, o[i].n_listed, worst,
               1e3 * o[i].fine_s / o[i].n, 1e3 * o[i].naive_s / o[i].n, o[i].fine_s, o[i].naive_s,
               o[i].naive_s / o[i].fine_s);
    }
    fflush(stdout);
}

static int is_jpeg(const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return dot != NULL && strcmp(dot, ".jpg") == 0;
}

/* A folder's photographs as an archive, which is what readers take: every k-th, n of them. */
static char *archive_of(const char *folder, int n, int every)
{
    struct test_member *members = calloc((size_t)n, sizeof(*members));
    struct dirent **entries = NULL;
    int found = scandir(folder, &entries, is_jpeg, alphasort), used = 0;
    for (int i = 0; i < found; i++) {
        char path[1024];
        struct stat st;
        FILE *f = NULL;
        snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
        if (i % every == 0 && used < n && stat(path, &st) == 0 &&
            (f = fopen(path, "rb")) != NULL) {
            char *data = malloc((size_t)st.st_size + 1);
            members[used].name = entries[i]->d_name;
            members[used].size = fread(data, 1, (size_t)st.st_size, f);
            members[used++].data = data;
            fclose(f);
        }
    }
    char *archive = test_write_archive("photographs.tar", TEST_TAR, members, (size_t)used);
    for (int i = 0; i < used; i++) {
        free((void *)members[i].data);
    }
    for (int i = 0; i < found; i++) {
        free(entries[i]);
    }
    free(entries);
    free(members);
    return archive;
}

static enum qd_code collect(const struct network *n, struct qd_arena *arena,
                            struct activations *ret, struct qd_error *err)
{
    struct stat st;
    if (stat(n->data, &st) != 0) {
        return qd_fail_errno(err, errno, "open %s", n->data);
    }
    if (!S_ISDIR(st.st_mode)) {
        return activations_collect(n->model, n->data, &n->preprocess, n->n_samples, n->every,
                                   arena, ret, err);
    }
    char *archive = archive_of(n->data, n->n_samples, n->every);
    enum qd_code code =
        activations_collect(n->model, archive, &n->preprocess, n->n_samples, 1, arena, ret, err);
    free(archive);
    test_files_done();
    return code;
}

/* Adds the choices that are neither near nor as good to *failures. */
static bool bench_network(const struct network *n, int *failures)
{
    struct qd_arena arena;
    struct qd_error err;
    struct activations a;
    qd_arena_init(&arena, 0);
    enum qd_code code = collect(n, &arena, &a, &err);
    if (code == QD_NOT_FOUND) {
        printf("%s: skipped, %s\n", n->name, err.message);
    } else if (code != QD_OK) {
        fprintf(stderr, "bench_search: %s: %s\n", n->name, err.message);
        exit(1);
    }
    for (int symmetric = 0; symmetric < 2 && code == QD_OK; symmetric++) {
        struct outcome o[N_COMPARED] = {{0}};
        for (int i = 0; i < N_COMPARED; i++) {
            o[i].network = n->name;
            o[i].scheme = symmetric ? "symmetric" : "asymmetric";
        }
        for (int i = 0; i < a.n; i++) {
            bench_tensor(&a.tensor[i], symmetric == 1, o);
        }
        print_outcomes(n->name, symmetric == 1, o);
        for (int i = 0; i < N_COMPARED; i++) {
            *failures += o[i].n - o[i].n_near - o[i].n_tied - o[i].n_listed;
        }
    }
    *failures += code == QD_OK ? count_stale(n->name) : 0;
    qd_arena_done(&arena);
    return code == QD_OK;
}

int main(int argc, char **argv)
{
    int n_run = 0, failures = 0;
    const char *only = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0) {
            verbose = true;
        } else {
            only = argv[i];
        }
    }
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    read_listed();
    for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
        if (only == NULL || strcmp(only, networks[i].name) == 0) {
            n_run += bench_network(&networks[i], &failures);
        }
    }
    if (n_run == 0) {
        fprintf(stderr, "bench_search: no network to run\n");
        return 1;
    }
    if (failures > 0) {
        fprintf(stderr, "bench_search: %d choices are neither the naive form's nor next to it and not listed, "
                "or listed in vain\n",
                failures);
    }
    return failures > 0;
}
