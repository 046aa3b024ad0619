#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "quantcore/graph/op_table.h"

static bool is_code(enum qc_dtype dtype)
{
    return dtype == QC_S8 || dtype == QC_U8 || dtype == QC_S4 || dtype == QC_U4;
}

/* Name, then shape and type when the value is data or codes. A dim that follows the batch has a
 * '*'. */
static void dump_value(FILE *f, const struct qc_graph *g, int value)
{
    if (value < 0) {
        fputs("_", f);
        return;
    }
    const struct qc_value *v = &g->values[value];
    fputs(v->name ? v->name : "?", f);
    if ((v->constant != NULL && v->producer < 0 && !(is_code(v->dtype) && v->shape.rank > 1)) ||
        !v->shape_known) {
        return;
    }
    fputc('[', f);
    for (int i = 0; i < v->shape.rank; i++) {
        fprintf(f, "%s%" PRId64 "%s", i ? "," : "", v->shape.dim[i],
                v->symbolic_dims >> i & 1 ? "*" : "");
    }
    fprintf(f, "]%s", qc_dtype_name(v->dtype));
}

static void dump_values(FILE *f, const struct qc_graph *g, const int *values, int n)
{
    for (int i = 0; i < n; i++) {
        fputs(i ? ", " : "", f);
        dump_value(f, g, values[i]);
    }
}

static void dump_attr(FILE *f, const struct qc_attr *a)
{
    char shape[192];
    fprintf(f, "%s=", a->name);
    switch (a->type) {
    case QC_ATTR_FLOAT:
        fprintf(f, "%.9g", (double)a->f);
        return;
    case QC_ATTR_INT:
        fprintf(f, "%" PRId64, a->i);
        return;
    case QC_ATTR_STRING:
        fprintf(f, "\"%.*s\"", (int)(a->s.size < 64 ? a->s.size : 64), (const char *)a->s.data);
        return;
    case QC_ATTR_TENSOR:
        fprintf(f, "%s%s", qc_shape_format(&a->tensor->shape, shape, sizeof shape),
                qc_dtype_name(a->tensor->dtype));
        return;
    case QC_ATTR_FLOATS:
    case QC_ATTR_INTS:
    case QC_ATTR_STRINGS:
    case QC_ATTR_TYPE_COUNT:
        break;
    }
    fputc('[', f);
    for (size_t i = 0; i < a->n; i++) {
        fputs(i ? "," : "", f);
        if (a->type == QC_ATTR_FLOATS) {
            fprintf(f, "%.9g", (double)a->floats[i]);
        } else if (a->type == QC_ATTR_INTS) {
            fprintf(f, "%" PRId64, a->ints[i]);
        } else {
            fprintf(f, "\"%.*s\"", (int)(a->strings[i].size < 64 ? a->strings[i].size : 64),
                    (const char *)a->strings[i].data);
        }
    }
    fputc(']', f);
}

static void dump_node(FILE *f, const struct qc_graph *g, const struct qc_node *n)
{
    fprintf(f, "%s %s(", n->name, n->op_type);
    dump_values(f, g, n->inputs, n->n_inputs);
    fputs(") -> ", f);
    dump_values(f, g, n->outputs, n->n_outputs);
    if (n->clamp.present) {
        fprintf(f, " clamp[%.9g,%.9g]", (double)n->clamp.lo, (double)n->clamp.hi);
    }
    if (n->shape_only) {
        fputs(" shape_only", f);
    }
    for (int i = 0; i < n->n_attrs; i++) {
        fputs(i ? ", " : " {", f);
        dump_attr(f, &n->attrs[i]);
    }
    fputs(n->n_attrs > 0 ? "}\n" : "\n", f);
}

enum qd_code qc_graph_dump(const struct qc_graph *g, char **ret, struct qd_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) {
        return qd_fail_errno(err, errno, "dump graph");
    }
    for (int i = 0; i < g->n_nodes; i++) {
        dump_node(f, g, &g->nodes[i]);
    }
    bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) {
        free(text);
        return qd_fail(err, QD_NO_MEMORY, "dump graph of %d nodes", g->n_nodes);
    }
    *ret = text;
    return QD_OK;
}
