/* quantd inspect MODEL: what a model is, and whether it can be quantized. */
#include <stdio.h>

#include "daemon/cmd.h"
#include "quantcore/quantcore.h"

static void print_io(const char *what, const struct qc_io_info *io, int n)
{
    for (int i = 0; i < n; i++) {
        (void)printf("%s %s %s[", what, io[i].name, io[i].dtype);
        for (int d = 0; d < io[i].rank; d++) {
            (void)fputs(d > 0 ? "," : "", stdout);
            if (io[i].dim[d] < 0) {
                (void)printf("N");
            } else {
                (void)printf("%lld", (long long)io[i].dim[d]);
            }
        }
        (void)printf("]\n");
    }
}

static void print_info(const struct qc_model_info *m)
{
    (void)printf("model %s, IR %lld, opset %lld, producer %s\n", m->name, (long long)m->ir_version,
                 (long long)m->opset, m->producer);
    print_io("input", m->inputs, m->n_inputs);
    print_io("output", m->outputs, m->n_outputs);
    (void)printf("%d operators, %d after folding and fusing; %lld parameters; %.1f million "
                 "multiply-accumulates a sample; %.1f MB of activations\n",
                 m->n_nodes, m->n_nodes_folded, (long long)m->n_parameters,
                 (double)m->n_macs / 1e6, (double)m->buffer_bytes / 1e6);
    (void)printf("%s\n%s", m->is_quantized          ? "carries QuantizeLinear already"
                           : m->has_quantized_weights ? "carries quantized weights already"
                                                      : "not quantized yet", m->dump);
}

static const char usage[] = "usage: quantd inspect MODEL\n";

int cmd_inspect(int argc, char **argv)
{
    struct qd_arena arena;
    struct qd_error err = {.code = QD_OK};
    struct qd_bytes model;
    struct qc_external external;
    struct qc_model_info *info = NULL;
    if (cmd_asks_help(argc, argv)) {
        (void)fputs(usage, stdout);
        return CMD_OK;
    }
    if (argc != 1 || argv[0][0] == '-') {
        (void)fputs(usage, stderr);
        return CMD_USAGE;
    }
    qd_arena_init(&arena, 0);
    enum qd_code code = cmd_read_model(argv[0], &arena, &model, &arena, &external, &err);
    if (code == QD_OK) {
        code = qc_inspect(model, &external, &arena, &info, &err);
    }
    if (code == QD_OK) {
        print_info(info);
    }
    qd_arena_done(&arena);
    return cmd_report_error("inspect", code, &err);
}
