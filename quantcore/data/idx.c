#include "quantcore/data/idx.h"

enum qd_code qc_idx_read_header(struct qc_source *source, struct qc_array_header *ret,
                                struct qd_error *err)
{
    static const struct {
        uint8_t code;
        enum qc_element element;
    } known[] = {
        {0x08, QC_ELEMENT_U8},  {0x09, QC_ELEMENT_S8},  {0x0b, QC_ELEMENT_S16},
        {0x0c, QC_ELEMENT_S32}, {0x0d, QC_ELEMENT_F32}, {0x0e, QC_ELEMENT_F64},
    };
    const char *label = qc_source_label(source);
    struct qc_array_header header = {.element = QC_ELEMENT_COUNT, .big_endian = true};
    uint8_t p[4];
    QD_TRY(qc_source_read(source, p, 4, err));
    for (size_t i = 0; i < QD_COUNT_OF(known); i++) {
        if (p[2] == known[i].code) {
            header.element = known[i].element;
        }
    }
    if (p[0] != 0 || p[1] != 0 || header.element == QC_ELEMENT_COUNT) {
        return qd_fail_on(err, QD_INVALID, label,
                          "%s: IDX magic %02x%02x%02x%02x: the type is none of 08, 09, 0b, 0c, "
                          "0d, 0e",
                          label, p[0], p[1], p[2], p[3]);
    }
    if (p[3] < 1 || p[3] > QC_READER_MAX_RANK + 1) {
        return qd_fail_on(err, QD_INVALID, label, "%s: IDX rank %d (1 to %d)", label, p[3],
                          QC_READER_MAX_RANK + 1);
    }
    header.rank = p[3];
    for (int i = 0; i < header.rank; i++) {
        QD_TRY(qc_source_read(source, p, 4, err));
        header.dim[i] =
            (int64_t)((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
    }
    header.data_offset = 4 + 4 * (uint64_t)header.rank;
    QD_TRY(qc_array_header_finish(&header, qc_source_size(source), label, err));
    *ret = header;
    return QD_OK;
}
