#include "worker/worker_progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "quantcore/base/qd_utf8.h"

#define HEADER 4u

static size_t frame_length(const uint8_t *p)
{
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

static enum qd_code check_length(size_t length, struct qd_error *err)
{
    if (length == 0 || length > WORKER_FRAME_MAX) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "frame of %zu bytes, allowed are 1 to %u", length,
                       WORKER_FRAME_MAX);
    }
    return QD_OK;
}

/* jansson's own limit of nesting (2048) is far above ours: count brackets first. */
static enum qd_code check_depth(const uint8_t *text, size_t size, struct qd_error *err)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted) {
            if (text[i] == '\\') {
                i++;
            } else if (text[i] == '"') {
                quoted = false;
            }
        } else if (text[i] == '"') {
            quoted = true;
        } else if (text[i] == '{' || text[i] == '[') {
            if (++depth > WORKER_FRAME_DEPTH) {
                return qd_fail(err, QD_LIMIT_EXCEEDED, "frame nests deeper than %d",
                               WORKER_FRAME_DEPTH);
            }
        } else if (text[i] == '}' || text[i] == ']') {
            depth--;
        }
    }
    return QD_OK;
}

static enum qd_code parse(const uint8_t *text, size_t size, json_t **ret, struct qd_error *err)
{
    json_error_t e;
    QD_TRY(check_depth(text, size, err));
    json_t *frame = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES, &e);
    if (frame == NULL) {
        return qd_fail(err, QD_INVALID, "frame is not JSON: %s at byte %d", e.text, e.position);
    }
    if (json_string_value(json_object_get(frame, "type")) == NULL) {
        json_decref(frame);
        return qd_fail(err, QD_INVALID, "frame is not an object with a type");
    }
    *ret = frame;
    return QD_OK;
}

void worker_decoder_init(struct worker_decoder *decoder)
{
    memset(decoder, 0, sizeof(*decoder));
}

void worker_decoder_done(struct worker_decoder *decoder)
{
    free(decoder->buffer);
    memset(decoder, 0, sizeof(*decoder));
}

/* The buffer grows with what has come, not with what a header announces. */
static enum qd_code append(struct worker_decoder *d, const uint8_t *data, size_t size,
                           struct qd_error *err)
{
    if (d->size + size > d->capacity) {
        size_t capacity = d->capacity == 0 ? 4096 : d->capacity;
        while (capacity < d->size + size) {
            capacity *= 2;
        }
        uint8_t *larger = realloc(d->buffer, capacity);
        if (larger == NULL) {
            return qd_fail(err, QD_NO_MEMORY, "no memory for a frame of %zu bytes",
                           d->size + size);
        }
        d->buffer = larger;
        d->capacity = capacity;
    }
    memcpy(d->buffer + d->size, data, size);
    d->size += size;
    return QD_OK;
}

static enum qd_code feed(struct worker_decoder *d, const uint8_t *data, size_t size,
                         enum qd_code (*on_frame)(void *, const char *, json_t *,
                                                  struct qd_error *),
                         void *arg, struct qd_error *err)
{
    while (size > 0) {
        size_t want = HEADER;
        if (d->size >= HEADER) {
            want = HEADER + frame_length(d->buffer);
        }
        size_t take = want - d->size < size ? want - d->size : size;
        QD_TRY(append(d, data, take, err));
        data += take;
        size -= take;
        if (d->size == HEADER && want == HEADER) {
            QD_TRY(check_length(frame_length(d->buffer), err));
        } else if (d->size == want && want > HEADER) {
            json_t *frame = NULL;
            QD_TRY(parse(d->buffer + HEADER, want - HEADER, &frame, err));
            d->size = 0;
            enum qd_code code = on_frame(
                arg, json_string_value(json_object_get(frame, "type")), frame, err);
            json_decref(frame);
            QD_TRY(code);
        }
    }
    return QD_OK;
}

enum qd_code worker_decoder_feed(struct worker_decoder *decoder, const void *data, size_t size,
                                 enum qd_code (*on_frame)(void *arg, const char *type,
                                                          json_t *frame, struct qd_error *err),
                                 void *arg, struct qd_error *err)
{
    if (decoder->failed) {
        return qd_fail(err, QD_INVALID, "frames after a broken one are not read");
    }
    enum qd_code code = feed(decoder, data, size, on_frame, arg, err);
    decoder->failed = code != QD_OK;
    return code;
}

enum qd_code worker_frame_encode(const json_t *frame, uint8_t **ret, size_t *ret_size,
                                 struct qd_error *err)
{
    size_t length = json_dumpb(frame, NULL, 0, JSON_COMPACT);
    QD_TRY(check_length(length, err));
    uint8_t *bytes = malloc(HEADER + length);
    if (bytes == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a frame of %zu bytes", length);
    }
    for (unsigned i = 0; i < HEADER; i++) {
        bytes[i] = (uint8_t)(length >> (8 * i));
    }
    json_dumpb(frame, (char *)bytes + HEADER, length, JSON_COMPACT);
    *ret = bytes;
    *ret_size = HEADER + length;
    return QD_OK;
}

static void *beat(void *arg)
{
    struct worker_channel *channel = arg;
    json_t *frame = json_pack("{s:s}", "type", "heartbeat");
    pthread_mutex_lock(&channel->lock);
    while (!channel->stop && frame != NULL) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += channel->interval_s;
        int rc = pthread_cond_timedwait(&channel->wake, &channel->lock, &until);
        if (rc == ETIMEDOUT && !channel->stop) {
            pthread_mutex_unlock(&channel->lock);
            /* The parent is gone: PDEATHSIG ends the process, there is nobody to tell. */
            (void)!worker_channel_send(channel, frame, NULL);
            pthread_mutex_lock(&channel->lock);
        }
    }
    pthread_mutex_unlock(&channel->lock);
    json_decref(frame);
    return NULL;
}

enum qd_code worker_channel_init(struct worker_channel *channel, int fd, unsigned interval_s,
                                 struct qd_error *err)
{
    pthread_condattr_t attr;
    memset(channel, 0, sizeof(*channel));
    channel->fd = fd;
    channel->interval_s = interval_s;
    pthread_mutex_init(&channel->lock, NULL);
    pthread_mutex_init(&channel->write_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&channel->wake, &attr);
    pthread_condattr_destroy(&attr);
    channel->ready = true;
    if (interval_s == 0) {
        return QD_OK;
    }
    int rc = pthread_create(&channel->beat, NULL, beat, channel);
    if (rc != 0) {
        worker_channel_done(channel);
        return qd_fail_errno(err, rc, "start the heartbeat thread");
    }
    channel->beating = true;
    return QD_OK;
}

void worker_channel_done(struct worker_channel *channel)
{
    if (channel == NULL || !channel->ready) {
        return;
    }
    if (channel->beating) {
        pthread_mutex_lock(&channel->lock);
        channel->stop = true;
        pthread_cond_signal(&channel->wake);
        pthread_mutex_unlock(&channel->lock);
        pthread_join(channel->beat, NULL);
    }
    pthread_cond_destroy(&channel->wake);
    pthread_mutex_destroy(&channel->lock);
    pthread_mutex_destroy(&channel->write_lock);
    memset(channel, 0, sizeof(*channel));
}

static enum qd_code read_all(int fd, uint8_t *data, size_t size, bool at_start,
                             struct qd_error *err)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return qd_fail_errno(err, errno, "read a frame");
        }
        if (n == 0) {
            return done == 0 && at_start
                       ? qd_fail(err, QD_NOT_FOUND, "end of frames")
                       : qd_fail(err, QD_INVALID, "frame ends after %zu of %zu bytes", done, size);
        }
        done += (size_t)n;
    }
    return QD_OK;
}

enum qd_code worker_channel_read(struct worker_channel *channel, json_t **ret,
                                 struct qd_error *err)
{
    uint8_t header[HEADER];
    QD_TRY(read_all(channel->fd, header, HEADER, true, err));
    size_t length = frame_length(header);
    QD_TRY(check_length(length, err));
    uint8_t *text = malloc(length);
    if (text == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a frame of %zu bytes", length);
    }
    enum qd_code code = read_all(channel->fd, text, length, false, err);
    if (code == QD_OK) {
        code = parse(text, length, ret, err);
    }
    free(text);
    return code;
}

enum qd_code worker_channel_send(struct worker_channel *channel, const json_t *frame,
                                 struct qd_error *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0, done = 0;
    enum qd_code code = QD_OK;
    if (frame == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a frame, or text that is not UTF-8");
    }
    QD_TRY(worker_frame_encode(frame, &bytes, &size, err));
    pthread_mutex_lock(&channel->write_lock);
    while (done < size && code == QD_OK) {
        ssize_t n = write(channel->fd, bytes + done, size - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            code = qd_fail_errno(err, errno, "send a frame of %zu bytes", size);
        }
    }
    pthread_mutex_unlock(&channel->write_lock);
    free(bytes);
    return code;
}

static enum qd_code send_take(struct worker_channel *channel, json_t *frame, struct qd_error *err)
{
    enum qd_code code = worker_channel_send(channel, frame, err);
    json_decref(frame);
    return code;
}

enum qd_code worker_channel_phase(struct worker_channel *channel, const char *phase,
                                  struct qd_error *err)
{
    return send_take(channel, json_pack("{s:s,s:s}", "type", "phase", "phase", phase), err);
}

enum qd_code worker_channel_progress(struct worker_channel *channel, int64_t done, int64_t total,
                                     const char *unit, struct qd_error *err)
{
    return send_take(channel,
                     json_pack("{s:s,s:I,s:I,s:s}", "type", "progress", "done", (json_int_t)done,
                               "total", (json_int_t)total, "unit", unit),
                     err);
}

enum qd_code worker_channel_log(struct worker_channel *channel, const char *message,
                                struct qd_error *err)
{
    return send_take(channel, json_pack("{s:s,s:s}", "type", "log", "message", message), err);
}

/* What is no UTF-8 becomes '?': names of nodes need not be, messages are cut anywhere, JSON must
 * be. Never longer than the text. */
static void make_utf8(char *out, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t n = qd_utf8_length((const unsigned char *)text, left);
        memcpy(out, n > 0 ? text : "?", n > 0 ? n : 1);
        out += n > 0 ? n : 1;
        text += n > 0 ? n : 1;
        left -= n > 0 ? n : 1;
    }
    *out = '\0';
}

enum qd_code worker_channel_error(struct worker_channel *channel, const struct qd_error *error,
                                  struct qd_error *err)
{
    char message[sizeof(error->message)], subject[sizeof(error->subject)];
    make_utf8(message, error->message);
    make_utf8(subject, error->subject);
    return send_take(channel,
                     json_pack("{s:s,s:s,s:s,s:s}", "type", "error", "code",
                               qd_code_name(error->code), "message", message, "subject", subject),
                     err);
}
