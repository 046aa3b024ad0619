/* quantd run MODEL --input X --output Y [--engine f32|int8] [--isa NAME]: a network on samples. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cmd.h"
#include "quantcore/data/npy_write.h"
#include "worker/worker_inputs.h"

struct run {
    const char *model, *input, *output;
    const char *tmp; /* output under another name until it is complete */
    enum qc_engine engine;
    enum qc_isa isa;
    struct qd_arena arena;
    struct qc_runner *runner;
    const struct qc_model_info *info;
    struct qc_reader *reader;
    float **in, **out, **all; /* all: an output of every sample, for .npz */
    int64_t **shape;          /* [n_outputs][rank], first dim the samples */
    size_t *elements;         /* of one sample */
};

static const char usage[] =
    "usage: quantd run MODEL --input X.npy|X.npz --output Y.npy|Y.npz [--engine f32|int8]\n"
    "           [--isa ref|neon|avx2|avxvnni|avx512]\n"
    "The first axis is the sample. .npz holds arrays by input and output names.\n";

static bool parse_engine(const char *word, enum qc_engine *ret)
{
    *ret = strcmp(word, "int8") == 0 ? QC_ENGINE_INT8 : QC_ENGINE_F32;
    return strcmp(word, "int8") == 0 || strcmp(word, "f32") == 0;
}

static bool parse_arguments(struct run *r, int argc, char **argv)
{
    static const struct option options[] = {{"input", required_argument, NULL, 'i'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"engine", required_argument, NULL, 'e'},
                                            {"isa", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    bool good = true;
    int c;
    while (good && (c = getopt_long(argc + 1, argv - 1, "", options, NULL)) != -1) {
        switch (c) {
        case 'i':
            r->input = optarg;
            break;
        case 'o':
            r->output = optarg;
            break;
        case 'e':
            good = parse_engine(optarg, &r->engine);
            break;
        case 's':
            good = qc_isa_from_name(optarg, &r->isa);
            break;
        default:
            good = false;
        }
    }
    if (good && optind == argc) {
        r->model = argv[argc - 1];
    }
    return good && r->model != NULL && r->input != NULL && r->output != NULL;
}

static bool is_npz(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".npz") == 0;
}

static enum qd_code make_buffers(struct run *r, int64_t n_samples, struct qd_error *err)
{
    size_t n_in = (size_t)r->info->n_inputs, n_out = (size_t)r->info->n_outputs;
    QD_TRY(qd_arena_array(&r->arena, n_in, sizeof(float *), &r->in, err));
    QD_TRY(qd_arena_array(&r->arena, n_out, sizeof(float *), &r->out, err));
    QD_TRY(qd_arena_array(&r->arena, n_out, sizeof(float *), &r->all, err));
    QD_TRY(qd_arena_array(&r->arena, n_out, sizeof(int64_t *), &r->shape, err));
    QD_TRY(qd_arena_array(&r->arena, n_out, sizeof(size_t), &r->elements, err));
    for (size_t i = 0; i < n_in; i++) {
        QD_TRY(qd_arena_array(&r->arena, qc_reader_elements(r->reader, (int)i), sizeof(float),
                              &r->in[i], err));
    }
    for (size_t i = 0; i < n_out; i++) {
        const struct qc_io_info *io = &r->info->outputs[i];
        r->elements[i] = 1;
        QD_TRY(qd_arena_array(&r->arena, QC_READER_MAX_RANK, sizeof(int64_t), &r->shape[i], err));
        r->shape[i][0] = n_samples;
        for (int d = 1; d < io->rank; d++) {
            r->shape[i][d] = io->dim[d];
            r->elements[i] *= (size_t)io->dim[d];
        }
        QD_TRY(qd_arena_array(&r->arena, r->elements[i], sizeof(float), &r->out[i], err));
        if (is_npz(r->output)) {
            QD_TRY(qd_arena_array(&r->arena, r->elements[i] * sizeof(float), (size_t)n_samples,
                                  &r->all[i], err));
        }
    }
    return QD_OK;
}

static enum qd_code run_samples(struct run *r, struct qc_npy_writer *writer, struct qd_error *err)
{
    for (int64_t s = 0;; s++) {
        bool end = false;
        QD_TRY(qc_reader_next(r->reader, r->in, &end, err));
        if (end) {
            return QD_OK;
        }
        QD_TRY(qc_runner_run(r->runner, (const float *const *)r->in, r->out, err));
        if (writer != NULL) {
            QD_TRY(qc_npy_writer_append(writer, r->out[0], r->elements[0], err));
            continue;
        }
        for (int i = 0; i < r->info->n_outputs; i++) {
            memcpy(r->all[i] + (size_t)s * r->elements[i], r->out[i],
                   r->elements[i] * sizeof(float));
        }
    }
}

static enum qd_code write_npy(struct run *r, struct qd_error *err)
{
    struct qc_npy_writer *writer = NULL;
    if (r->info->n_outputs != 1) {
        return qd_fail(err, QD_INVALID, "the model has %d outputs: --output must be .npz",
                       r->info->n_outputs);
    }
    QD_TRY(qc_npy_writer_open(r->tmp, QC_ELEMENT_F32, r->shape[0], r->info->outputs[0].rank,
                              &writer, err));
    enum qd_code code = run_samples(r, writer, err);
    if (code != QD_OK) {
        qc_npy_writer_free(writer);
        return code;
    }
    return qc_npy_writer_close(writer, err);
}

static enum qd_code write_npz(struct run *r, struct qd_error *err)
{
    struct qc_npz_array *arrays = NULL;
    size_t n = (size_t)r->info->n_outputs;
    QD_TRY(run_samples(r, NULL, err));
    QD_TRY(qd_arena_array(&r->arena, n, sizeof(*arrays), &arrays, err));
    for (size_t i = 0; i < n; i++) {
        arrays[i] = (struct qc_npz_array){.name = r->info->outputs[i].name,
                                          .element = QC_ELEMENT_F32,
                                          .shape = r->shape[i],
                                          .rank = r->info->outputs[i].rank,
                                          .data = r->all[i]};
    }
    return qc_npz_write(r->tmp, arrays, (int)n, err);
}

/* The input may be the output, and what stood there stays when this fails. */
static enum qd_code write_output(struct run *r, struct qd_error *err)
{
    QD_TRY(qd_arena_printf(&r->arena, &r->tmp, err, "%s.tmp", r->output));
    enum qd_code code = is_npz(r->output) ? write_npz(r, err) : write_npy(r, err);
    if (code == QD_OK && rename(r->tmp, r->output) != 0) {
        code = qd_fail_errno(err, errno, "write '%s'", r->output);
    }
    if (code != QD_OK) {
        (void)unlink(r->tmp);
    }
    return code;
}

static enum qd_code run_all(struct run *r, struct qd_error *err)
{
    struct qd_bytes model;
    struct qc_external external;
    struct qc_preprocess none = {0};
    struct worker_file file = {r->input, r->input};
    QD_TRY(cmd_read_model(r->model, &r->arena, &model, &r->arena, &external, err));
    QD_TRY(qc_runner_new(model, &external, r->engine, r->isa, &r->arena, &r->runner, err));
    r->info = qc_runner_info(r->runner);
    QD_TRY(worker_inputs_open(r->info, &none, &file, 1, NULL, &r->reader, err));
    QD_TRY(make_buffers(r, qc_reader_count(r->reader), err));
    return write_output(r, err);
}

int cmd_run(int argc, char **argv)
{
    struct run r = {.engine = QC_ENGINE_F32, .isa = QC_ISA_AVX512};
    struct qd_error err = {.code = QD_OK};
    if (cmd_asks_help(argc, argv)) {
        (void)fputs(usage, stdout);
        return CMD_OK;
    }
    if (!parse_arguments(&r, argc, argv)) {
        (void)fputs(usage, stderr);
        return CMD_USAGE;
    }
    qd_arena_init(&r.arena, 0);
    enum qd_code code = run_all(&r, &err);
    qc_reader_free(r.reader);
    qd_arena_done(&r.arena);
    return cmd_report_error("run", code, &err);
}
