#include "worker/worker_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/worker_table_json.h"

/* NAN and infinities have no JSON form: null says "not measured" and "no error at all". */
static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *layer_row(const struct qc_layer_row *r)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:i, s:i, s:i, s:i, s:I, s:b}",
                     "node",
                     r->node, "op_type", r->op_type, "output", r->output, "precision",
                     r->precision, "reason", r->reason, "local_sqnr_db", number(r->local_sqnr_db),
                     "cumulative_sqnr_db", number(r->cumulative_sqnr_db), "cosine",
                     number(r->cosine), "max_error", number(r->max_error), "saturated_share",
                     number(r->saturated_share), "weight_sqnr_db", number(r->weight_sqnr_db),
                     "n_weights", (json_int_t)r->n_weights, "weight_bits", r->weight_bits,
                     "block_size", r->block_size, "dead_channels", r->n_dead_channels,
                     "raised_scales", r->n_raised_scales, "saturating_pairs",
                     (json_int_t)r->n_saturating_pairs, "f32_bias", r->f32_bias);
}

static json_t *output_row(const struct qc_output_row *r)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", r->name, "sqnr_db",
                     number(r->sqnr_db), "cosine", number(r->cosine), "max_error",
                     number(r->max_error), "top1_agreement", number(r->top1_agreement),
                     "top5_agreement", number(r->top5_agreement), "accuracy_f32",
                     number(r->accuracy_f32), "accuracy_int8", number(r->accuracy_int8),
                     "accuracy_ci95", number(r->accuracy_ci95));
}

json_t *worker_report_layers(const struct qc_report *report)
{
    json_t *rows = json_array();
    for (int i = 0; i < report->n_layers; i++) {
        json_array_append_new(rows, layer_row(&report->layers[i]));
    }
    return rows;
}

json_t *worker_report_calibration(const struct qc_report *report)
{
    struct qd_arena arena;
    struct worker_table table = {0};
    json_t *rows = NULL;
    qd_arena_init(&arena, 0);
    if (worker_table_from_report(report, &arena, &table, NULL) == QD_OK) {
        rows = json_array();
        for (size_t i = 0; i < table.n_rows; i++) {
            json_array_append_new(rows, worker_table_row_json(&table.rows[i]));
        }
    }
    qd_arena_done(&arena);
    return rows;
}

enum qd_code worker_report_table(const struct qc_report *report, enum worker_table_format format,
                                 char **ret_text, size_t *ret_size, struct qd_error *err)
{
    struct qd_arena arena;
    struct worker_table table;
    qd_arena_init(&arena, 0);
    enum qd_code code = worker_table_from_report(report, &arena, &table, err);
    if (code == QD_OK) {
        code = worker_table_write(&table, format, ret_text, ret_size, err);
    }
    qd_arena_done(&arena);
    return code;
}

static json_t *phases(const struct qc_report *report)
{
    json_t *seconds = json_object();
    for (int i = 0; i < QC_PHASE_COUNT; i++) {
        json_object_set_new(seconds, qc_phase_name((enum qc_phase)i),
                            number(report->phase_seconds[i]));
    }
    return seconds;
}

static json_t *choice_rows(const struct qc_report *report)
{
    json_t *rows = json_array();
    for (int i = 0; i < report->n_choices; i++) {
        const struct qc_choice *c = &report->choices[i];
        json_array_append_new(rows, json_pack("{s:s, s:b, s:b, s:o, s:o, s:o}", "configuration",
                                              c->label, "tried", c->tried, "chosen", c->chosen,
                                              "sqnr_db", number(c->tried ? c->sqnr_db : NAN),
                                              "agreement",
                                              number(c->tried ? c->agreement : NAN), "seconds",
                                              number(c->seconds)));
    }
    return rows;
}

/* Several configurations were compared: the table, and why the winner won. */
static void add_choices(json_t *json, const struct qc_report *report)
{
    if (report->n_choices > 0) {
        json_object_set_new(json, "choices", choice_rows(report));
        json_object_set_new(json, "choice_reason", json_string(report->choice_reason));
        json_object_set_new(json, "n_selection", json_integer(report->n_selection));
    }
}

json_t *worker_report_json(const struct qc_report *report)
{
    json_t *outputs = json_array(), *warnings = json_array();
    for (int i = 0; i < report->n_outputs; i++) {
        json_array_append_new(outputs, output_row(&report->outputs[i]));
    }
    for (int i = 0; i < report->n_warnings; i++) {
        json_array_append_new(warnings, json_string(report->warnings[i]));
    }
    json_t *json = json_pack(
        "{s:s, s:s, s:{s:i, s:i}, s:{s:I, s:I}, s:s, s:i, s:I, s:I, s:b, s:b, s:{s:I, s:I}, s:{s:i, s:i}, "
        "s:{s:i, s:i}, s:o, s:f, s:I, "
        "s:b, s:o, s:o, s:o}",
        "model", report->model_name, "mode", qc_mode_name(report->mode), "weights", "bits",
        report->weight_bits, "block_size", report->block_size, "opset", "in",
        (json_int_t)report->opset_in, "out",
        (json_int_t)report->opset_out, "isa", report->isa, "threads", report->n_threads,
        "n_calibration", (json_int_t)report->n_calibration, "n_verification",
        (json_int_t)report->n_verification, "verification_held_back",
        report->verification_held_back, "verification_same", report->verification_same, "bytes", "in", (json_int_t)report->size_in, "out",
        (json_int_t)report->size_out, "nodes", "int8", report->n_nodes_int8, "f32",
        report->n_nodes_f32, "imported", "tensors", report->n_imported_tensors, "constants",
        report->n_imported_constants, "phase_seconds", phases(report), "total_seconds",
        report->total_seconds, "peak_arena_bytes", (json_int_t)report->peak_arena_bytes,
        "gate_passed", report->gate_passed, "outputs", outputs, "warnings", warnings, "layers",
        worker_report_layers(report));
    add_choices(json, report);
    return json;
}

static int by_local_sqnr(const void *a, const void *b)
{
    double x = (*(const struct qc_layer_row *const *)a)->local_sqnr_db;
    double y = (*(const struct qc_layer_row *const *)b)->local_sqnr_db;
    return (x > y) - (x < y);
}

static void print_worst(FILE *out, const struct qc_report *report)
{
    const struct qc_layer_row **rows = calloc((size_t)report->n_layers + 1, sizeof(*rows));
    size_t n = 0;
    for (int i = 0; rows != NULL && i < report->n_layers; i++) {
        if (isfinite(report->layers[i].local_sqnr_db)) {
            rows[n++] = &report->layers[i];
        }
    }
    if (n > 0) {
        qsort(rows, n, sizeof(*rows), by_local_sqnr);
        fprintf(out, "worst layers by SQNR        local   cumulative\n");
    }
    for (size_t i = 0; i < n && i < 5; i++) {
        fprintf(out, "  %-22.40s %6.1f dB  %6.1f dB  %s\n", rows[i]->node,
                rows[i]->local_sqnr_db, rows[i]->cumulative_sqnr_db, rows[i]->op_type);
    }
    free(rows);
}

static void print_output(FILE *out, const struct qc_output_row *r)
{
    if (isnan(r->cosine)) {
        return; /* nothing was verified */
    }
    fprintf(out, "output %s: SQNR %.2f dB, cosine %.6f\n", r->name, r->sqnr_db, r->cosine);
    if (isfinite(r->top1_agreement)) {
        fprintf(out, "  top-1 agreement with f32  %.2f %%\n", 100 * r->top1_agreement);
    }
    if (isfinite(r->accuracy_int8)) {
        fprintf(out, "  accuracy                  f32 %.2f %%, INT8 %.2f %% (+- %.2f)\n",
                100 * r->accuracy_f32, 100 * r->accuracy_int8, 100 * r->accuracy_ci95);
    }
}

/* What is not the default. */
static void print_mode(FILE *out, const struct qc_report *report)
{
    if (report->mode != QC_MODE_STATIC) {
        fprintf(out, "mode %s, ", qc_mode_name(report->mode));
    }
    if (report->weight_bits == 16) {
        fprintf(out, "weights in float16, ");
    } else if (report->weight_bits != 8 || report->block_size > 0) {
        fprintf(out, "weights of %d bit%s", report->weight_bits, report->weight_bits > 1 ? "s" : "");
        if (report->block_size > 0) {
            fprintf(out, " in blocks of %d", report->block_size);
        }
        fprintf(out, ", ");
    }
}

static void print_samples(FILE *out, const struct qc_report *report)
{
    print_mode(out, report);
    if (report->mode != QC_MODE_STATIC && report->n_calibration == 0) {
        fprintf(out, "without calibration, verified on %lld samples\n",
                (long long)report->n_verification);
        return;
    }
    fprintf(out, "calibrated on %lld samples, ", (long long)report->n_calibration);
    if (report->n_verification == 0) {
        fprintf(out, "not verified: no samples were given\n");
    } else {
        fprintf(out, "verified on %lld %s\n", (long long)report->n_verification,
                report->verification_same        ? "that calibrated too"
                : report->verification_held_back ? "held back"
                                                 : "given for it");
    }
}

static void print_choices(FILE *out, const struct qc_report *report)
{
    if (report->n_choices == 0) {
        return;
    }
    fprintf(out, "configurations, compared on %lld samples\n", (long long)report->n_selection);
    for (int i = 0; i < report->n_choices; i++) {
        const struct qc_choice *c = &report->choices[i];
        if (!c->tried) {
            fprintf(out, "  %-48.100s not tried\n", c->label);
        } else if (isnan(c->agreement)) {
            fprintf(out, "%c %-48.100s %6.2f dB\n", c->chosen ? '*' : ' ', c->label, c->sqnr_db);
        } else {
            fprintf(out, "%c %-48.100s %6.2f dB  %6.2f %%\n", c->chosen ? '*' : ' ', c->label,
                    c->sqnr_db, 100 * c->agreement);
        }
    }
    fprintf(out, "chosen: %s\n", report->choice_reason);
}

char *worker_report_text(const struct qc_report *report)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    fprintf(out, "%s: %zu -> %zu bytes (%.2fx smaller), %d operators on integers, %d in f32\n",
            report->model_name, report->size_in, report->size_out,
            (double)report->size_in / (double)(report->size_out > 0 ? report->size_out : 1),
            report->n_nodes_int8, report->n_nodes_f32);
    if (report->n_table > 0) {
        fprintf(out, "from the calibration table: the scales of %d tensors; %zu of its %zu rows "
                     "name none that is quantized\n",
                report->n_imported_tensors, report->n_table_unused, report->n_table);
    } else if (report->n_imported_tensors + report->n_imported_constants > 0) {
        fprintf(out, "kept from the model: the scales of %d tensors, %d integer constants\n",
                report->n_imported_tensors, report->n_imported_constants);
    }
    print_samples(out, report);
    print_choices(out, report);
    for (int i = 0; i < report->n_outputs; i++) {
        print_output(out, &report->outputs[i]);
    }
    print_worst(out, report);
    fprintf(out, "seconds:");
    for (int i = 0; i < QC_PHASE_COUNT; i++) {
        fprintf(out, " %s %.3f", qc_phase_name((enum qc_phase)i), report->phase_seconds[i]);
    }
    fprintf(out, ", total %.3f\n", report->total_seconds);
    for (int i = 0; i < report->n_warnings; i++) {
        fprintf(out, "warning: %s\n", report->warnings[i]);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
