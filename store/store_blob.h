/* Content-addressed files: <data>/blobs/ab/<sha256>, mode 0400, written once, never changed.
 *
 * A writer hashes what it is given into blobs/tmp/<random>; commit makes it durable (fsync),
 * links it to its address (never over an existing file) and syncs the folder. A failed fsync
 * is never repeated: the writer is spoilt and its temporary removed. May be used by several
 * threads; one writer by one thread at a time. */
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include "store/store.h"

#define STORE_SHA256_SIZE 65 /* 64 lower-case hex digits and NUL */

struct store_blob_writer;

/* Creates the folders, removes temporaries of a former run (the caller holds the lock). */
QD_MUST_CHECK enum qd_code store_blobs_open(const char *data_dir, uint64_t min_free_bytes,
                                            struct store_blobs **ret, struct qd_error *err);
void store_blobs_close(struct store_blobs *blobs);

/* 64 lower-case hex digits? */
bool store_sha256_valid(const char *sha256);

/* QD_NO_SPACE if `bytes` more would leave less than the floor. */
QD_MUST_CHECK enum qd_code store_blobs_check_space(struct store_blobs *blobs, uint64_t bytes,
                                                   struct qd_error *err);

/* expected_size: bytes announced (0: unknown), checked against free space. max_size: limit that
 * store_blob_write keeps. */
QD_MUST_CHECK enum qd_code store_blob_writer_new(struct store_blobs *blobs, uint64_t expected_size,
                                                 uint64_t max_size,
                                                 struct store_blob_writer **ret,
                                                 struct qd_error *err);
/* QD_LIMIT_EXCEEDED past max_size, QD_NO_SPACE. After a failure only _free is left. */
QD_MUST_CHECK enum qd_code store_blob_write(struct store_blob_writer *writer, const void *data,
                                            size_t size, struct qd_error *err);
/* expected_sha256: NULL, or what the content must hash to (else QD_INVALID, nothing is kept). */
QD_MUST_CHECK enum qd_code store_blob_commit(struct store_blob_writer *writer,
                                             const char *expected_sha256,
                                             char ret_sha256[STORE_SHA256_SIZE],
                                             uint64_t *ret_size, struct qd_error *err);
/* What a commit did to the file of its content. */
struct store_blob_mark {
    bool created;    /* false: it was there already, its time was renewed */
    int64_t time_ns; /* of the file since */
};
struct store_blob_mark store_blob_mark_of(const struct store_blob_writer *writer);
/* Remove the file that the mark's owner made, unless somebody committed the same content since
 * or is_used says so. A mark that made none removes nothing. */
QD_MUST_CHECK enum qd_code store_blobs_discard(struct store_blobs *blobs, const char *sha256,
                                               struct store_blob_mark mark,
                                               enum qd_code (*is_used)(void *arg,
                                                                       const char *sha256,
                                                                       bool *ret,
                                                                       struct qd_error *err),
                                               void *arg, struct qd_error *err);
/* Also removes the temporary when it was not committed. */
void store_blob_writer_free(struct store_blob_writer *writer);

/* Read all of fd from its position into a new blob. */
QD_MUST_CHECK enum qd_code store_blob_ingest(struct store_blobs *blobs, int fd, uint64_t max_size,
                                             char ret_sha256[STORE_SHA256_SIZE],
                                             uint64_t *ret_size, struct qd_error *err);

/* Descriptor for reading (close-on-exec), the caller closes it. QD_NOT_FOUND. */
QD_MUST_CHECK enum qd_code store_blob_open(struct store_blobs *blobs, const char *sha256,
                                           int *ret_fd, uint64_t *ret_size, struct qd_error *err);

/* Remove blobs older than grace_ms for which is_used is false. A failing is_used ends it. */
QD_MUST_CHECK enum qd_code store_blobs_gc(struct store_blobs *blobs, int64_t grace_ms,
                                          enum qd_code (*is_used)(void *arg, const char *sha256,
                                                                  bool *ret,
                                                                  struct qd_error *err),
                                          void *arg, struct store_gc_result *ret,
                                          struct qd_error *err);

/* The same for one blob. */
QD_MUST_CHECK enum qd_code store_blobs_remove(struct store_blobs *blobs, const char *sha256,
                                              int64_t grace_ms,
                                              enum qd_code (*is_used)(void *arg,
                                                                      const char *sha256,
                                                                      bool *ret,
                                                                      struct qd_error *err),
                                              void *arg, struct qd_error *err);

/* Tests: the n-th following write, fsync or link (1 = next) fails with ENOSPC or EIO; 0: off. */
void store_blobs_fail_after(struct store_blobs *blobs, int n, int errnum);

#endif
