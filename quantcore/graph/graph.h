/* The network between import and export: values joined by nodes, everything in one arena.
 *
 * Nodes stand in topological order. A value is an index into graph->values, -1 an absent
 * optional input. The graph is always in one canonical form, that of opset 18 (attributes that
 * became inputs are inputs): import brings models to it, export writes it or, for an artifact of
 * an older opset, that opset's form.
 *
 * Shapes are those of a run with the batch bound: a symbolic leading dim of an input is 1.
 * `symbolic` remembers which dims (and which elements of a folded shape computation) would
 * change with the batch, so that nothing of the kind is baked into an artifact. */
#ifndef QC_GRAPH_H
#define QC_GRAPH_H

#include "quantcore/graph/tensor.h"

enum qc_attr_type {
    QC_ATTR_FLOAT, QC_ATTR_INT, QC_ATTR_STRING, QC_ATTR_TENSOR, QC_ATTR_FLOATS, QC_ATTR_INTS,
    QC_ATTR_STRINGS, QC_ATTR_TYPE_COUNT
};

struct qc_attr {
    const char *name;
    enum qc_attr_type type;
    float f;
    int64_t i;
    struct qd_bytes s;               /* STRING; data is followed by a NUL */
    const struct qc_tensor *tensor;
    size_t n;                        /* FLOATS, INTS, STRINGS */
    const float *floats;
    const int64_t *ints;
    const struct qd_bytes *strings;
};

/* A fused Relu / Clip: the node's result is clamped to [lo, hi]. */
struct qc_clamp {
    bool present;
    float lo, hi; /* -INFINITY, INFINITY when one side is open */
};

struct qc_value {
    const char *name;
    enum qc_dtype dtype;              /* QC_UNKNOWN until inferred */
    bool shape_known;
    struct qc_shape shape;
    uint8_t symbolic_dims;            /* bit i: dim i follows the batch */
    const struct qc_tensor *constant; /* initializer or folded; NULL for data */
    uint64_t symbolic_elements;       /* constant: bit i: element i follows the batch (elements
                                         beyond 63 share bit 63) */
    int producer;                     /* node index, -1 for inputs and initializers */
    bool was_s8;                      /* zero point of codes that int_shift moved from s8 to u8 */
};

struct qc_node {
    const char *name;                 /* unique; made up when the model had none */
    const char *op_type, *domain;     /* domain "" is ONNX's own */
    const char *doc_string;           /* may be NULL */
    int op;                           /* enum qc_op, see op_table.h */
    int n_inputs, n_outputs;
    int *inputs, *outputs;            /* value indices */
    int n_attrs;
    const struct qc_attr *attrs;
    struct qc_clamp clamp;
    /* Of a BatchNormalization that was folded into this node: the mean (beta) and the standard
     * deviation (|gamma|) that each channel of its result had in training. NULL: none. */
    const float *trained_mean, *trained_std;
    bool shape_only;                  /* all outputs are known constants: nothing to execute */
    struct qd_bytes unknown;          /* unknown protobuf fields, written back as they were */
};

struct qc_opset {
    const char *domain;
    int64_t version;
};

struct qc_io {                        /* a graph input or output, as declared */
    int value;
    bool has_shape;
    int rank;
    int64_t dim[QC_MAX_RANK];         /* -1: symbolic */
    const char *dim_param[QC_MAX_RANK]; /* NULL when numeric or anonymous */
    const char *doc_string;
};

struct qc_graph {
    struct qd_arena *arena;
    const char *name, *doc_string;
    int n_values, cap_values;
    struct qc_value *values;
    int n_nodes, cap_nodes;
    struct qc_node *nodes;
    int n_inputs, n_outputs;
    struct qc_io *inputs, *outputs;   /* real inputs only: initializers are constants */
    int64_t opset;                    /* default domain, of the original model */
    int64_t least_opset;              /* lower bound of the exported one, for what the nodes use
                                         that came later (INT4: 21); 0: none */
    /* model header, kept for export */
    int64_t ir_version, model_version;
    const char *producer_name, *producer_version, *model_domain, *model_doc_string;
    int n_opsets;
    const struct qc_opset *opsets;
    int n_metadata;
    const char *const *metadata;      /* key, value, key, value … : 2 * n_metadata strings */
    struct qd_bytes unknown_model, unknown_graph;
};

QD_MUST_CHECK enum qd_code qc_graph_new(struct qd_arena *arena, struct qc_graph **ret,
                                        struct qd_error *err);
/* Append a value (name borrowed from the arena) / a node with room for its inputs and outputs
 * (all -1). ret_node stays valid until the next append. */
QD_MUST_CHECK enum qd_code qc_graph_add_value(struct qc_graph *g, const char *name, int *ret_value,
                                              struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_graph_add_node(struct qc_graph *g, const char *name, int op,
                                             int n_inputs, int n_outputs,
                                             struct qc_node **ret_node, struct qd_error *err);
/* A value that holds a constant (tensor borrowed from the arena). */
QD_MUST_CHECK enum qd_code qc_graph_add_constant(struct qc_graph *g, const char *name,
                                                 const struct qc_tensor *tensor, int *ret_value,
                                                 struct qd_error *err);
/* Index of the value called name, -1 if there is none. Linear. */
int qc_graph_find_value(const struct qc_graph *g, const char *name);
/* Recompute producers; QD_INVALID when a value has two producers, an input is undefined, or
 * the nodes are not in topological order (the node is named). */
QD_MUST_CHECK enum qd_code qc_graph_link(struct qc_graph *g, struct qd_error *err);
/* Number of uses of a value by nodes (graph outputs not counted) / is it a graph output. */
int qc_graph_count_uses(const struct qc_graph *g, int value);
bool qc_graph_is_output(const struct qc_graph *g, int value);
/* Every use of `from` (nodes and graph outputs) becomes `to`. */
void qc_graph_replace_uses(struct qc_graph *g, int from, int to);
/* Drop nodes whose outputs nobody uses, and nodes marked removed by setting n_outputs = 0;
 * keeps the order; then links. */
QD_MUST_CHECK enum qd_code qc_graph_sweep(struct qc_graph *g, struct qd_error *err);

/* Attributes, NULL or the default when absent. */
const struct qc_attr *qc_node_attr(const struct qc_node *n, const char *name);
int64_t qc_node_int(const struct qc_node *n, const char *name, int64_t fallback);
float qc_node_float(const struct qc_node *n, const char *name, float fallback);
/* Number of ints copied to out (at most max); 0 when absent. */
int qc_node_ints(const struct qc_node *n, const char *name, int64_t *out, int max);
const char *qc_node_string(const struct qc_node *n, const char *name, const char *fallback);
/* Constant of input i, NULL when absent or not constant. */
const struct qc_tensor *qc_node_constant(const struct qc_graph *g, const struct qc_node *n, int i);

#endif
