/* The fields of a job's configuration that hold one value, in one table. */
#ifndef WORKER_SPEC_FIELDS_H
#define WORKER_SPEC_FIELDS_H

#include "worker/worker_spec.h"

enum field_type { FIELD_F64, FIELD_F32, FIELD_INT, FIELD_S64, FIELD_SIZE, FIELD_BOOL, FIELD_WORD };

/* One field: its place in the JSON ("/section/key"), its type and where it goes. */
struct worker_spec_field {
    const char *pointer;
    enum field_type type;
    size_t at;
    enum qd_code (*word)(struct worker_spec *s, const char *word); /* FIELD_WORD */
    const char *allowed;                                           /* FIELD_WORD: for messages */
};

/* NULL: the table has none of this name. */
const struct worker_spec_field *worker_spec_field(const char *pointer);
/* The pointer of the field whose option has this name ("bins", "gate_max_drop"), or NULL. */
const char *worker_spec_pointer(const char *option);
/* QD_INVALID names the field and what it may be. */
QD_MUST_CHECK enum qd_code worker_spec_set(struct worker_spec *s,
                                           const struct worker_spec_field *field,
                                           const json_t *value, struct qd_error *err);

#endif
