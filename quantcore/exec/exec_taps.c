#include "quantcore/exec/exec_taps.h"

/* Of a wide kernel over a narrow input every column may be a run, with taps of its own. */
enum { RUNS_MOST = 16 };
/* 32 columns and a kernel of 3: what is left out is a fiftieth. */
enum { WIDTH_MOST = 32, CHANNELS_LEAST = 32 };

void qc_window_seen(const struct qc_window *w, int d, int64_t size, int64_t at, int *ret_first,
                    int *ret_n)
{
    int64_t start = at * w->stride[d] - w->pad[d];
    int first = 0, end = w->kernel[d];
    while (first < end && start + (int64_t)first * w->dilation[d] < 0) {
        first++;
    }
    while (end > first && start + (int64_t)(end - 1) * w->dilation[d] >= size) {
        end--;
    }
    *ret_first = first;
    *ret_n = end - first;
}

bool qc_taps_worth_runs(const struct qc_window *w, int channels, const struct qc_view *out)
{
    return w->kernel[1] > 1 && channels >= CHANNELS_LEAST && out->shape.dim[3] <= WIDTH_MOST;
}

static enum qd_code list_taps(const struct qc_prepare *p, const struct qc_window *w,
                              const struct qc_view *in, const struct qc_taps *taps,
                              struct qc_run *run, struct qd_error *err)
{
    int n = taps->rows * run->n_columns;
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(int32_t), &run->tap, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(int32_t), &run->gap, err));
    for (int i = 0; i < n; i++) {
        int row = i / run->n_columns, column = run->kernel_column + i % run->n_columns;
        int64_t tap = (int64_t)row * w->dilation[0] * in->row_stride +
                      (int64_t)column * w->dilation[1] * in->pixel_stride;
        if (tap > INT32_MAX) {
            return qc_prepare_refuse(p, err, "the input is too large");
        }
        run->tap[i] = (int32_t)tap;
        bool end = (i + 1) % run->n_columns == 0;
        run->gap[i] = end ? (taps->columns - run->n_columns) * taps->tap_size : 0;
    }
    return QD_OK;
}

/* The run that begins at output column `first`. */
static void find_run(const struct qc_window *w, int64_t in_width, int64_t width, int64_t first,
                     struct qc_run *ret)
{
    int column = 0, n = 0;
    ret->first = first;
    qc_window_seen(w, 1, in_width, first, &ret->kernel_column, &ret->n_columns);
    for (ret->n = 1; first + ret->n < width; ret->n++) {
        qc_window_seen(w, 1, in_width, first + ret->n, &column, &n);
        if (column != ret->kernel_column || n != ret->n_columns) {
            break;
        }
    }
}

enum qd_code qc_taps_init(const struct qc_prepare *p, const struct qc_window *w,
                          const struct qc_view *in, const struct qc_view *out, int channels,
                          int panel, bool merged, bool divided, struct qc_taps *ret, struct qd_error *err)
{
    int64_t in_width = in->shape.dim[3], width = out->shape.dim[3];
    struct qc_run run;
    *ret = (struct qc_taps){.rows = w->kernel[0], .columns = merged ? 1 : w->kernel[1]};
    divided = divided && w->kernel[1] <= INT32_MAX / panel / channels; /* gaps of 32 bits */
    ret->tap_size = divided ? channels * panel : 0;
    ret->all = (struct qc_run){.n = width, .n_columns = ret->columns};
    QD_TRY(list_taps(p, w, in, ret, &ret->all, err));
    int n = 0;
    for (int64_t at = 0; divided && at < width; at += run.n, n++) {
        find_run(w, in_width, width, at, &run);
    }
    if (n < 2 || n > RUNS_MOST) {
        return QD_OK;
    }
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(*ret->run), &ret->run, err));
    for (int64_t at = 0; at < width; at += run.n) {
        find_run(w, in_width, width, at, &run);
        QD_TRY(list_taps(p, w, in, ret, &run, err));
        ret->run[ret->n_runs++] = run;
    }
    return QD_OK;
}
