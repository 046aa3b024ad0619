/* multipart/form-data, streamed: each part goes to a sink while it arrives; nothing of a part is
 * kept here. What a client may send is a table of rules. */
#ifndef API_UPLOAD_H
#define API_UPLOAD_H

#include "api/api_request.h"

#define API_UPLOAD_NAME_MAX 255 /* bytes of a file name */

struct api_part_rule {
    const char *name;
    unsigned max_count;
    uint64_t max_bytes; /* of one part */
};

struct api_part {
    const struct api_part_rule *rule;
    const char *file_name; /* as sent, checked: UTF-8 without control characters and slashes, not
                              "." or ".."; "" when none. Never a path to be opened. */
    unsigned index;        /* 0 for the first part of this name */
};

/* One part at a time: begin, data (any number of times), end. A failure ends the upload. */
struct api_sink {
    enum qd_code (*begin)(void *arg, const struct api_part *part, struct qd_error *err);
    enum qd_code (*data)(void *arg, const char *bytes, size_t size, struct qd_error *err);
    enum qd_code (*end)(void *arg, struct qd_error *err);
    void *arg;
};

struct api_upload;

/* At most 16 rules, borrowed. Fails with 415 when the body is no multipart/form-data. */
QD_MUST_CHECK enum qd_code api_upload_new(struct api_request *request,
                                          const struct api_part_rule *rules, size_t n_rules,
                                          const struct api_sink *sink, struct api_upload **ret,
                                          struct qd_error *err);
void api_upload_free(struct api_upload *upload);
/* The next bytes of the body. QD_INVALID for an unknown part, QD_LIMIT_EXCEEDED, or the sink's. */
QD_MUST_CHECK enum qd_code api_upload_feed(struct api_upload *upload, const char *bytes,
                                           size_t size, struct qd_error *err);
/* The body is complete: ends the last part. QD_INVALID when its closing boundary is missing. */
QD_MUST_CHECK enum qd_code api_upload_finish(struct api_upload *upload, struct qd_error *err);

#endif
