#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "quantcore/base/qd_embedded.h"
#include "store/store_db.h"

#define APPLICATION_ID 0x71746431 /* "qtd1" */

static int64_t wall_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static enum qd_code lock_folder(struct store *store, struct qd_error *err)
{
    char path[4096];
    if (mkdir(store->data_dir, 0700) != 0 && errno != EEXIST) {
        return qd_fail_errno(err, errno, "create data folder '%s'", store->data_dir);
    }
    /* Absolute from here on: a job's child has its scratch folder as working directory. */
    char *absolute = realpath(store->data_dir, NULL);
    if (absolute == NULL || strlen(absolute) > 3000) {
        int cause = absolute == NULL ? errno : ENAMETOOLONG;
        free(absolute);
        return qd_fail_errno(err, cause, "resolve '%s'", store->data_dir);
    }
    snprintf(store->data_dir, sizeof(store->data_dir), "%s", absolute);
    free(absolute);
    snprintf(path, sizeof(path), "%s/lock", store->data_dir);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0) {
        return qd_fail_errno(err, errno, "open lock file '%s'", path);
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? qd_fail(err, QD_CONFLICT, "data folder '%s' is in use by another quantd",
                             store->data_dir)
                   : qd_fail_errno(err, errno, "lock '%s'", path);
    }
    return QD_OK;
}

static enum qd_code pragma_int(struct store *store, const char *sql, int64_t *ret,
                               struct qd_error *err)
{
    struct store_query q;
    bool row = false;
    store_query_init(&q, store, sql, err);
    enum qd_code code = store_query_step(&q, &row);
    if (code == QD_OK) {
        *ret = row ? store_column_int(&q, 0) : 0;
    }
    store_query_done(&q);
    return code;
}

static const struct qd_embedded *find_migration(int64_t number)
{
    char prefix[64];
    snprintf(prefix, sizeof(prefix), "store/migrations/%03d_", (int)number);
    for (const struct qd_embedded *f = qd_embedded_files; f->path != NULL; f++) {
        if (strncmp(f->path, prefix, strlen(prefix)) == 0) {
            return f;
        }
    }
    return NULL;
}

/* One transaction a migration, its number last: a crash leaves the former schema whole. */
static enum qd_code apply_migration(struct store *store, int64_t number, struct qd_error *err)
{
    char sql[96];
    const struct qd_embedded *file = find_migration(number);
    if (file == NULL) {
        return qd_fail(err, QD_INTERNAL, "migration %d is not in the binary", (int)number);
    }
    snprintf(sql, sizeof(sql), "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION_ID,
             (int)number);
    QD_TRY(store_begin(store, err));
    enum qd_code code = store_exec(store, (const char *)file->data, err);
    if (code == QD_OK) {
        code = store_exec(store, sql, err);
    }
    code = store_end(store, code, err);
    return code == QD_OK ? QD_OK : qd_wrap(err, code, "migration %s", file->path);
}

static enum qd_code migrate(struct store *store, struct qd_error *err)
{
    int64_t version = 0, application = 0, tables = 0;
    QD_TRY(pragma_int(store, "PRAGMA user_version", &version, err));
    QD_TRY(pragma_int(store, "PRAGMA application_id", &application, err));
    QD_TRY(pragma_int(store, "SELECT count(*) FROM sqlite_schema", &tables, err));
    if (application != APPLICATION_ID && (application != 0 || tables != 0)) {
        return qd_fail(err, QD_UNSUPPORTED,
                       "'%s/quantd.db' is not quantd's: application id %lld, expected %d",
                       store->data_dir, (long long)application, APPLICATION_ID);
    }
    if (version > STORE_SCHEMA_VERSION) {
        return qd_fail(err, QD_UNSUPPORTED,
                       "'%s/quantd.db' has schema %lld, this quantd knows up to %d: run the newer "
                       "version",
                       store->data_dir, (long long)version, STORE_SCHEMA_VERSION);
    }
    for (int64_t n = version + 1; n <= STORE_SCHEMA_VERSION; n++) {
        QD_TRY(apply_migration(store, n, err));
    }
    return QD_OK;
}

static enum qd_code open_database(struct store *store, struct qd_error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/quantd.db", store->data_dir);
    int rc = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (rc != SQLITE_OK) {
        enum qd_code code = qd_fail(err, rc == SQLITE_NOMEM ? QD_NO_MEMORY : QD_IO,
                                    "open database '%s': %s", path, sqlite3_errstr(rc));
        return code;
    }
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, 5000);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    QD_TRY(store_exec(store,
                      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                      "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
                      "PRAGMA mmap_size=0; PRAGMA journal_size_limit=67108864;"
                      "PRAGMA temp_store=MEMORY",
                      err));
    return migrate(store, err);
}

enum qd_code store_open(const struct store_settings *settings, struct store **ret,
                        struct qd_error *err)
{
    unsigned char random[16];
    struct store *store = calloc(1, sizeof(*store));
    enum qd_code code = QD_OK;
    if (store == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the store");
    }
    store->lock_fd = -1;
    store->now_ms = settings->now_ms != NULL ? settings->now_ms : wall_clock_ms;
    store->events_max = settings->events_max > 0 ? settings->events_max : STORE_EVENTS_MAX;
    /* Room is left for "/scratch/<job>-<attempt>/<file>" within PATH_MAX. */
    if (strlen(settings->data_dir) == 0 || strlen(settings->data_dir) > 3000) {
        code = qd_fail(err, QD_INVALID, "data folder: path of %zu bytes, allowed are 1 to 3000",
                       strlen(settings->data_dir));
        goto out;
    }
    snprintf(store->data_dir, sizeof(store->data_dir), "%s", settings->data_dir);
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        code = qd_fail_errno(err, errno, "read random bytes");
        goto out;
    }
    for (size_t i = 0; i < sizeof(random); i++) {
        snprintf(store->instance + 2 * i, 3, "%02x", random[i]);
    }
    code = lock_folder(store, err);
    if (code == QD_OK) {
        code = store_blobs_open(store->data_dir, settings->min_free_bytes, &store->blobs, err);
    }
    if (code == QD_OK) {
        code = open_database(store, err);
    }
out:
    if (code != QD_OK) {
        store_close(store);
        return qd_wrap(err, code, "open store");
    }
    *ret = store;
    return QD_OK;
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    sqlite3_close_v2(store->db);
    store_blobs_close(store->blobs);
    if (store->lock_fd >= 0) {
        close(store->lock_fd);
    }
    free(store);
}

struct store_blobs *store_blobs_of(struct store *store)
{
    return store->blobs;
}

const char *store_data_dir(const struct store *store)
{
    return store->data_dir;
}

const char *store_instance(const struct store *store)
{
    return store->instance;
}

int64_t store_now_ms(const struct store *store)
{
    return store->now_ms();
}

void store_fail_after(struct store *store, int n)
{
    store->fail_after = n;
}

enum qd_code store_backup(struct store *store, const char *path, struct qd_error *err)
{
    struct store_query q;
    if (access(path, F_OK) == 0) {
        return qd_fail(err, QD_CONFLICT, "backup: '%s' exists", path);
    }
    store_query_init(&q, store, "VACUUM INTO ?", err);
    store_bind_text(&q, path);
    enum qd_code code = store_query_run(&q);
    return code == QD_OK ? QD_OK : qd_wrap(err, code, "backup to '%s'", path);
}

static enum qd_code blob_is_used(void *arg, const char *sha256, bool *ret, struct qd_error *err)
{
    struct store_query q;
    store_query_init(&q, arg,
                     "SELECT 1 FROM job_inputs WHERE blob=?1 UNION ALL "
                     "SELECT 1 FROM artifacts WHERE blob=?1 LIMIT 1",
                     err);
    store_bind_text(&q, sha256);
    enum qd_code code = store_query_step(&q, ret);
    store_query_done(&q);
    return code;
}

enum qd_code store_gc(struct store *store, int64_t grace_ms, struct store_gc_result *ret,
                      struct qd_error *err)
{
    return store_blobs_gc(store->blobs, grace_ms, blob_is_used, store, ret, err);
}

enum qd_code store_remove_unused(struct store *store, const char *sha256, int64_t grace_ms,
                                 struct qd_error *err)
{
    return store_blobs_remove(store->blobs, sha256, grace_ms, blob_is_used, store, err);
}

enum qd_code store_discard(struct store *store, const char *sha256,
                           const struct store_blob_mark *mark, struct qd_error *err)
{
    return store_blobs_discard(store->blobs, sha256, *mark, blob_is_used, store, err);
}
