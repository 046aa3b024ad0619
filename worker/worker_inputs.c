#include "worker/worker_inputs.h"

#include <stdlib.h>

static enum qd_code describe(const struct qc_model_info *info, struct qc_reader_input *ret,
                             struct qd_error *err)
{
    if (info->n_inputs < 1 || info->n_inputs > QC_READER_MAX_INPUTS) {
        return qd_fail(err, QD_UNSUPPORTED, "the model has %d inputs, supported: 1 to %d",
                       info->n_inputs, QC_READER_MAX_INPUTS);
    }
    for (int i = 0; i < info->n_inputs; i++) {
        const struct qc_io_info *io = &info->inputs[i];
        if (io->rank < 1) {
            return qd_fail_on(err, QD_UNSUPPORTED, io->name,
                              "input '%s' has no dimension for the samples", io->name);
        }
        if (io->dim[0] > 1) {
            return qd_fail_on(err, QD_UNSUPPORTED, io->name,
                              "input '%s' has a fixed batch of %lld, supported: 1 or symbolic",
                              io->name, (long long)io->dim[0]);
        }
        ret[i] = (struct qc_reader_input){.name = io->name, .rank = io->rank - 1};
        for (int d = 1; d < io->rank; d++) {
            ret[i].dim[d - 1] = io->dim[d];
        }
    }
    return QD_OK;
}

enum qd_code worker_inputs_open(const struct qc_model_info *info,
                                const struct qc_preprocess *preprocess,
                                const struct worker_file *files, int n, const char *labels_path,
                                struct qc_reader **ret, struct qd_error *err)
{
    struct qc_reader_input inputs[QC_READER_MAX_INPUTS];
    struct qc_reader *all = NULL;
    struct qc_reader_options options = {.inputs = inputs,
                                        .n_inputs = info->n_inputs,
                                        .preprocess = *preprocess};
    QD_TRY(describe(info, inputs, err));
    struct qc_reader **parts = calloc((size_t)n, sizeof(struct qc_reader *));
    if (parts == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "out of memory for %d files", n);
    }
    enum qd_code code = QD_OK;
    int opened = 0;
    while (opened < n && code == QD_OK) {
        code = qc_reader_open(files[opened].path, files[opened].label, &options, &parts[opened],
                              err);
        opened += code == QD_OK ? 1 : 0;
    }
    if (code == QD_OK && n == 1) {
        all = parts[0];
    } else if (code == QD_OK) {
        code = qc_reader_concat_take(parts, n, &all, err); /* takes them on failure too */
    } else {
        for (int i = 0; i < opened; i++) {
            qc_reader_free(parts[i]);
        }
    }
    free(parts);
    if (code == QD_OK && labels_path != NULL) {
        code = qc_reader_read_labels(all, labels_path, err);
    }
    if (code != QD_OK) {
        qc_reader_free(all);
        return code;
    }
    *ret = all;
    return QD_OK;
}
