/* Bytes in order, from a plain file, a gzip file, a member of a zip archive or memory.
 *
 * A source never maps a file: a file that shrinks while it is read gives an error, not SIGBUS.
 * Decompressing sources meet the limits while they read, on bytes that came out, so that a
 * header that lies about sizes changes nothing. */
#ifndef QC_SOURCE_H
#define QC_SOURCE_H

#include "quantcore/data/reader.h"

#define QC_SOURCE_UNKNOWN  UINT64_MAX
#define QC_MEMBER_NAME_MAX 1024 /* bytes in the name of an archive's member */

/* Decompressed bytes counted against the limits; also used by the archive reader. */
struct qc_budget {
    struct qc_reader_limits limits; /* defaults filled in */
    uint64_t stored_bytes;          /* size of the compressed file */
    uint64_t member_bytes;          /* out of the current member so far */
    uint64_t total_bytes;           /* out of all members in this pass */
    bool check_ratio;
};

/* Replace zeros by the defaults that reader.h states. */
struct qc_reader_limits qc_limits_resolve(const struct qc_reader_limits *limits);
/* Count n more bytes of `member` ("" for a plain stream): QD_LIMIT_EXCEEDED names the value and
 * the limit. The ratio is judged once a MiB came out, against the whole stored file. */
QD_MUST_CHECK enum qd_code qc_budget_add(struct qc_budget *budget, const char *label,
                                         const char *member, size_t n, struct qd_error *err);

struct archive;
struct archive_entry;
/* archive_read_next_header, whatever the locale. *ret_name: the member's name as bytes, "" if it
 * has none; it lasts as long as the entry. */
int qc_next_entry(struct archive *archive, struct archive_entry **ret, const char **ret_name);

struct qc_source; /* heap object */

/* `label` (borrowed, must outlive the source) is the name in messages; path is trusted. */
QD_MUST_CHECK enum qd_code qc_source_open_file(const char *path, const char *label,
                                               struct qc_source **ret, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_source_open_gz(const char *path, const char *label,
                                             const struct qc_reader_limits *limits,
                                             struct qc_source **ret, struct qd_error *err);
/* One member of a zip archive by exact name: its own libarchive handle, hence several members
 * can be read side by side. `member` is copied; it is compared and never used as a path. */
QD_MUST_CHECK enum qd_code qc_source_open_zip_member(const char *path, const char *label,
                                                     const char *member,
                                                     const struct qc_reader_limits *limits,
                                                     struct qc_source **ret,
                                                     struct qd_error *err);
/* Borrowed memory. */
QD_MUST_CHECK enum qd_code qc_source_open_bytes(struct qd_bytes bytes, const char *label,
                                                struct qc_source **ret, struct qd_error *err);
/* Point an existing memory source at other bytes and start at their beginning. */
void qc_source_set_bytes(struct qc_source *source, struct qd_bytes bytes);
void qc_source_free(struct qc_source *source);

const char *qc_source_label(const struct qc_source *source);
/* Total bytes if known without reading, else QC_SOURCE_UNKNOWN. */
uint64_t qc_source_size(const struct qc_source *source);

/* Up to n bytes; *ret_got < n only at the end of the stream. */
QD_MUST_CHECK enum qd_code qc_source_read_some(struct qc_source *source, void *out, size_t n,
                                               size_t *ret_got, struct qd_error *err);
/* Exactly n bytes, else QD_INVALID "ends after ... bytes". */
QD_MUST_CHECK enum qd_code qc_source_read(struct qc_source *source, void *out, size_t n,
                                          struct qd_error *err);
/* Move forward; a plain file and memory seek, the others decode and drop. */
QD_MUST_CHECK enum qd_code qc_source_skip(struct qc_source *source, uint64_t n,
                                          struct qd_error *err);
/* QD_INVALID if anything follows: trailing bytes are a sign of a wrong header. This is also
 * what makes zlib and libarchive check their checksums. */
QD_MUST_CHECK enum qd_code qc_source_expect_end(struct qc_source *source, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_source_rewind(struct qc_source *source, struct qd_error *err);

#endif
