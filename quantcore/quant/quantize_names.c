#include "quantcore/quant/quantize_names.h"

#include <string.h>

/* FNV-1a. */
static size_t hash(const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (; *name != '\0'; name++) {
        h = (h ^ (uint8_t)*name) * 1099511628211u;
    }
    return (size_t)(h ^ (h >> 32));
}

/* The slot that holds name, or the empty one where it belongs. */
static size_t find_slot(const struct qc_name_set *s, const char *name)
{
    size_t i = hash(name) & (s->n_slots - 1);
    while (s->slot[i] != NULL && strcmp(s->slot[i], name) != 0) {
        i = (i + 1) & (s->n_slots - 1);
    }
    return i;
}

enum qd_code qc_name_set_init(struct qc_name_set *s, size_t expected, struct qd_arena *arena,
                              struct qd_error *err)
{
    struct qc_name_set set = {.n_slots = 64};
    while (set.n_slots / 2 < expected && set.n_slots < SIZE_MAX / 4) {
        set.n_slots *= 2;
    }
    QD_TRY(qd_arena_array(arena, set.n_slots, sizeof(*set.slot), &set.slot, err));
    *s = set;
    return QD_OK;
}

bool qc_name_set_has(const struct qc_name_set *s, const char *name)
{
    return s->slot[find_slot(s, name)] != NULL;
}

enum qd_code qc_name_set_add(struct qc_name_set *s, const char *name, struct qd_arena *arena,
                             struct qd_error *err)
{
    if (2 * (s->n + 1) > s->n_slots) {
        struct qc_name_set larger;
        QD_TRY(qc_name_set_init(&larger, s->n_slots, arena, err));
        for (size_t i = 0; i < s->n_slots; i++) {
            if (s->slot[i] != NULL) {
                larger.slot[find_slot(&larger, s->slot[i])] = s->slot[i];
            }
        }
        larger.n = s->n;
        *s = larger;
    }
    size_t i = find_slot(s, name);
    s->n += s->slot[i] == NULL;
    s->slot[i] = name;
    return QD_OK;
}

enum qd_code qc_name_set_make(struct qc_name_set *s, const char *base, const char *suffix,
                              struct qd_arena *arena, const char **ret, struct qd_error *err)
{
    const char *name = NULL;
    QD_TRY(qd_arena_printf(arena, &name, err, "%s%s", base, suffix));
    for (int more = 2; qc_name_set_has(s, name); more++) {
        /* A number, not ever more underscores: weights may be shared by any number of nodes. */
        QD_TRY(qd_arena_printf(arena, &name, err, "%s%s_%d", base, suffix, more));
    }
    QD_TRY(qc_name_set_add(s, name, arena, err));
    *ret = name;
    return QD_OK;
}
