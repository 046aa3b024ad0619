/* Frames between the daemon and a job's child process: a 4-byte little-endian length
 * (1 .. 1 MiB) and one JSON object of that many bytes with a string member "type".
 *
 *   parent -> child  {"type":"job","job":id,"attempt":n,"config":{…},"scratch":"/…","threads":n,
 *                     "inputs":[{"role":"model","fd":4,"name":"…","size":n},…]}
 *   (type "check", with the same members: look at it only, answer {"type":"result","summary":{…}})
 *   child -> parent  {"type":"phase","phase":"pass1"}
 *                    {"type":"progress","done":n,"total":n,"unit":"samples"}
 *                    {"type":"heartbeat"}      {"type":"log","message":"…"}
 *                    {"type":"error","code":"invalid","message":"…","subject":"…"}
 *                    {"type":"result","passed":true,"summary":{…},
 *                     "artifacts":[{"name":"…","file":"…","content_type":"…"}],
 *                     "calibration":[…],"layers":[…]}
 *   calibration row: tensor, op_type, dtype (texts), scale > 0, zero_point, count (integers), lo,
 *     hi, min, max, clipped_share (numbers, null for none)
 *   layer row: node, op_type, precision (texts), reason (text or null), local_sqnr_db,
 *     cumulative_sqnr_db, cosine, max_error (numbers or null)
 *   Other members of a row are kept together as its `extra` JSON. A result that is larger than a frame is sent in parts: any number of
 * {"type":"rows","calibration":[…],"layers":[…]} before it, whose rows are appended. */
#ifndef WORKER_PROGRESS_H
#define WORKER_PROGRESS_H

#include <jansson.h>
#include <pthread.h>

#include "quantcore/base/qd_error.h"

#define WORKER_FRAME_MAX   (1024u * 1024u)
#define WORKER_FRAME_DEPTH 16      /* nesting of objects and arrays */
#define WORKER_HEARTBEAT_S 5
#define WORKER_CHILD_FD    3       /* control and progress, both ways */
#define WORKER_FIRST_INPUT_FD 4

/* Decoder: give it bytes as they come, it calls on_frame for each complete one. */
struct worker_decoder {
    uint8_t *buffer; /* one frame with its length */
    size_t size, capacity;
    bool failed;
};
void worker_decoder_init(struct worker_decoder *decoder);
void worker_decoder_done(struct worker_decoder *decoder);
/* QD_INVALID or QD_LIMIT_EXCEEDED for hostile bytes; the decoder then refuses everything.
 * The frame is borrowed. A failure of on_frame ends the call with its code. */
QD_MUST_CHECK enum qd_code worker_decoder_feed(
    struct worker_decoder *decoder, const void *data, size_t size,
    enum qd_code (*on_frame)(void *arg, const char *type, json_t *frame, struct qd_error *err),
    void *arg, struct qd_error *err);

/* Bytes of a frame with its length; the caller frees *ret. QD_LIMIT_EXCEEDED over 1 MiB. */
QD_MUST_CHECK enum qd_code worker_frame_encode(const json_t *frame, uint8_t **ret,
                                               size_t *ret_size, struct qd_error *err);

/* --- the child's side: blocking, one write a frame under a mutex, any thread ---------------- */
struct worker_channel {
    int fd;
    unsigned interval_s;
    pthread_mutex_t write_lock; /* frames do not mix */
    pthread_mutex_t lock;       /* of the thread's end */
    pthread_cond_t wake;
    pthread_t beat;
    bool ready, beating, stop;
};
/* Starts a thread that sends a heartbeat every interval_s seconds (0: none). */
QD_MUST_CHECK enum qd_code worker_channel_init(struct worker_channel *channel, int fd,
                                               unsigned interval_s, struct qd_error *err);
/* Ends the thread; does not close fd. Takes a zeroed channel. */
void worker_channel_done(struct worker_channel *channel);
/* Read one frame (waits). Caller owns *ret (json_decref). QD_NOT_FOUND at end of file. */
QD_MUST_CHECK enum qd_code worker_channel_read(struct worker_channel *channel, json_t **ret,
                                               struct qd_error *err);
QD_MUST_CHECK enum qd_code worker_channel_send(struct worker_channel *channel,
                                               const json_t *frame, struct qd_error *err);
QD_MUST_CHECK enum qd_code worker_channel_phase(struct worker_channel *channel,
                                                const char *phase, struct qd_error *err);
QD_MUST_CHECK enum qd_code worker_channel_progress(struct worker_channel *channel, int64_t done,
                                                   int64_t total, const char *unit,
                                                   struct qd_error *err);
QD_MUST_CHECK enum qd_code worker_channel_log(struct worker_channel *channel,
                                              const char *message, struct qd_error *err);
QD_MUST_CHECK enum qd_code worker_channel_error(struct worker_channel *channel,
                                                const struct qd_error *error,
                                                struct qd_error *err);

#endif
