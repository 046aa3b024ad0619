#include "quantcore/onnx/onnx_names.h"

#include <string.h>

static uint64_t hash_text(const char *text)
{
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
    for (const char *p = text; *p != '\0'; p++) {
        h = (h ^ (uint8_t)*p) * UINT64_C(1099511628211);
    }
    return h ^ h >> 32;
}

static struct qc_onnx_name *find_slot(const struct qc_onnx_names *names, const char *text)
{
    size_t i = hash_text(text) & (names->capacity - 1);
    while (names->slots[i].text != NULL && strcmp(names->slots[i].text, text) != 0) {
        i = (i + 1) & (names->capacity - 1);
    }
    return &names->slots[i];
}

int qc_onnx_names_find(const struct qc_onnx_names *names, const char *text)
{
    if (names->capacity == 0) {
        return -1;
    }
    const struct qc_onnx_name *slot = find_slot(names, text);
    return slot->text != NULL ? slot->index : -1;
}

static enum qd_code grow(struct qc_onnx_names *names, struct qd_error *err)
{
    struct qc_onnx_names old = *names;
    names->capacity = old.capacity == 0 ? 64 : old.capacity * 2;
    enum qd_code code = qd_arena_array(names->arena, names->capacity, sizeof(*names->slots),
                                       &names->slots, err);
    if (code != QD_OK) {
        *names = old;
        return code;
    }
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].text != NULL) {
            *find_slot(names, old.slots[i].text) = old.slots[i];
        }
    }
    return QD_OK;
}

enum qd_code qc_onnx_names_add(struct qc_onnx_names *names, const char *text, int index,
                               struct qd_error *err)
{
    if (names->count * 2 >= names->capacity) {
        QD_TRY(grow(names, err));
    }
    *find_slot(names, text) = (struct qc_onnx_name){text, index};
    names->count++;
    return QD_OK;
}

enum qd_code qc_onnx_names_make(struct qc_onnx_names *names, struct qd_arena *arena,
                                const char *base, int index, const char **ret,
                                struct qd_error *err)
{
    const char *text = NULL;
    if (qc_onnx_names_find(names, base) == -1) {
        QD_TRY(qd_arena_string(arena, base, strlen(base), &text, err));
    }
    /* steps that grow, so that a model full of taken names costs a logarithm, not a walk */
    for (uint64_t step = 1; text == NULL; step = step < 16 ? step + 1 : step * 2) {
        uint64_t number = step < 4 ? step : names->count + step;
        const char *candidate;
        QD_TRY(qd_arena_printf(arena, &candidate, err, "%s_%llu", base,
                               (unsigned long long)number));
        text = qc_onnx_names_find(names, candidate) == -1 ? candidate : NULL;
    }
    QD_TRY(qc_onnx_names_add(names, text, index, err));
    *ret = text;
    return QD_OK;
}
