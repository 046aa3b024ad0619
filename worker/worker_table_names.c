#include "worker/worker_table_names.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    const struct worker_table_name *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

enum qd_code worker_table_check_unique(struct worker_table_name *names, size_t n,
                                       const char *what, struct qd_error *err)
{
    if (n > 1) {
        qsort(names, n, sizeof(*names), by_name);
    }
    for (size_t i = 1; i < n; i++) {
        if (strcmp(names[i - 1].name, names[i].name) != 0) {
            continue;
        }
        return names[i].line > 0
                   ? qd_fail_on(err, QD_INVALID, names[i].name,
                                "line %d: %s '%.200s' stands in line %d already", names[i].line,
                                what, names[i].name, names[i - 1].line)
                   : qd_fail_on(err, QD_INVALID, names[i].name, "%s '%.200s' appears twice", what,
                                names[i].name);
    }
    return QD_OK;
}

enum qd_code worker_table_check_name(size_t length, const char *what, struct qd_error *err)
{
    if (length == 0) {
        return qd_fail(err, QD_INVALID, "a %s has an empty name", what);
    }
    if (length > WORKER_TABLE_MAX_NAME) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "the name of a %s has %zu bytes, allowed: %d",
                       what, length, WORKER_TABLE_MAX_NAME);
    }
    return QD_OK;
}

bool worker_table_scale(double value, float *ret)
{
    float scale = (float)value;
    if (!isnormal(scale) || scale < 0) {
        return false;
    }
    *ret = scale;
    return true;
}
