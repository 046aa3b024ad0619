/* What the readers of calibration tables check alike. */
#ifndef WORKER_TABLE_NAMES_H
#define WORKER_TABLE_NAMES_H

#include "worker/worker_table_read.h"

/* A name and where it stood; line 0: not known. */
struct worker_table_name {
    const char *name;
    int line;
};

/* QD_INVALID names the first (in the order of names) that appears twice, and both lines. Sorts. */
QD_MUST_CHECK enum qd_code worker_table_check_unique(struct worker_table_name *names, size_t n,
                                                     const char *what, struct qd_error *err);
/* 1 to WORKER_TABLE_MAX_NAME bytes. */
QD_MUST_CHECK enum qd_code worker_table_check_name(size_t length, const char *what,
                                                   struct qd_error *err);
/* value as an f32 scale: normal and positive. */
bool worker_table_scale(double value, float *ret);

#endif
