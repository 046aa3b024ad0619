/* Archives (tar, tar.gz, tar.zst, zip) as lists of members in the byte order of their names.
 *
 * Opening lists the archive once, in its own order. If that is the order of the names already,
 * members are streamed; else sorting decodes them once into an unlinked temporary file (in
 * TMPDIR, or /tmp), from which they are read. Names are only compared and shown: no member's name
 * is ever used as a path. */
#ifndef QC_MEMBER_LIST_H
#define QC_MEMBER_LIST_H

#include "quantcore/data/source.h"

enum qc_member_kind { QC_MEMBER_PNG, QC_MEMBER_JPEG, QC_MEMBER_NPY, QC_MEMBER_KIND_COUNT };

struct qc_member_list;

/* What the first n bytes of a file are; QC_MEMBER_KIND_COUNT if none of the three. */
enum qc_member_kind qc_member_kind_of(const uint8_t *bytes, size_t n);

/* List an archive. Folders, and files with a name that starts with a dot, are passed over;
 * links and devices are QD_INVALID, contents other than PNG, JPEG and .npy (thus also nested
 * archives) QD_UNSUPPORTED. label is borrowed. */
QD_MUST_CHECK enum qd_code qc_member_list_open(const char *path, const char *label, bool is_zip,
                                               const struct qc_reader_limits *limits,
                                               struct qc_member_list **ret, struct qd_error *err);
/* Bring the members into the order of their names, before the first of next, skip, rewind.
 * A name that occurs twice is QD_INVALID. */
QD_MUST_CHECK enum qd_code qc_member_list_sort(struct qc_member_list *list, struct qd_error *err);
/* A plain file as a list of one member, whose name is the label. */
QD_MUST_CHECK enum qd_code qc_member_list_open_single(const char *path, const char *label,
                                                      enum qc_member_kind kind,
                                                      const struct qc_reader_limits *limits,
                                                      struct qc_member_list **ret,
                                                      struct qd_error *err);
void qc_member_list_free(struct qc_member_list *list);

size_t qc_member_list_count(const struct qc_member_list *list);
const char *qc_member_list_name(const struct qc_member_list *list, size_t i);
enum qc_member_kind qc_member_list_kind(const struct qc_member_list *list, size_t i);
/* Bytes that listing and reading keep on disk: 0 when streaming. */
uint64_t qc_member_list_spooled(const struct qc_member_list *list);

/* Bytes of the next member, valid until the next call. The caller stops at the count. */
QD_MUST_CHECK enum qd_code qc_member_list_next(struct qc_member_list *list, struct qd_bytes *ret,
                                               struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_member_list_skip(struct qc_member_list *list, size_t n,
                                               struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_member_list_rewind(struct qc_member_list *list,
                                                 struct qd_error *err);

#endif
