#include "quantcore/passes/pass.h"

#include "quantcore/passes/pass_bn_fold.h"
#include "quantcore/passes/pass_fuse_activation.h"
#include "quantcore/passes/pass_fuse_bias.h"
#include "quantcore/passes/pass_simplify.h"

enum qd_code qc_passes_run(struct qc_graph *g, struct qd_error *err)
{
    static const struct {
        const char *name;
        enum qd_code (*run)(struct qc_graph *g, struct qd_error *err);
    } passes[] = {
        {"simplify", qc_pass_simplify},
        {"fold biases", qc_pass_fuse_bias},
        {"fold BatchNormalization", qc_pass_bn_fold},
        {"fold biases", qc_pass_fuse_bias},
        {"fuse activations", qc_pass_fuse_activation},
    };
    for (size_t i = 0; i < QD_COUNT_OF(passes); i++) {
        enum qd_code code = passes[i].run(g, err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "%s", passes[i].name);
        }
    }
    return QD_OK;
}
