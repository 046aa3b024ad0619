#include "worker/worker_threads.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

struct worker_threads {
    int n, n_started;
    uv_thread_t *thread;
    uv_mutex_t mutex;
    uv_cond_t wake, idle;
    unsigned round;  /* a new one for every parallel_for */
    int n_busy;
    bool stop;
    /* the round's work */
    atomic_int next;
    int n_items;
    void (*fn)(void *arg, int index, int thread);
    void *arg;
    atomic_int n_joined; /* hands out thread numbers 1..n-1, once each */
};

static void work(struct worker_threads *t, int thread)
{
    for (;;) {
        int i = atomic_fetch_add(&t->next, 1);
        if (i >= t->n_items) {
            return;
        }
        t->fn(t->arg, i, thread);
    }
}

static void thread_main(void *arg)
{
    struct worker_threads *t = arg;
    int self = atomic_fetch_add(&t->n_joined, 1) + 1;
    unsigned seen = 0;
    uv_mutex_lock(&t->mutex);
    for (;;) {
        while (!t->stop && t->round == seen) {
            uv_cond_wait(&t->wake, &t->mutex);
        }
        if (t->stop) {
            break;
        }
        seen = t->round;
        uv_mutex_unlock(&t->mutex);
        work(t, self);
        uv_mutex_lock(&t->mutex);
        if (--t->n_busy == 0) {
            uv_cond_signal(&t->idle);
        }
    }
    uv_mutex_unlock(&t->mutex);
}

static void parallel_for(void *ctx, int n, void (*fn)(void *arg, int index, int thread), void *arg)
{
    struct worker_threads *t = ctx;
    uv_mutex_lock(&t->mutex);
    atomic_store(&t->next, 0);
    t->n_items = n;
    t->fn = fn;
    t->arg = arg;
    t->n_busy = t->n_started;
    t->round++;
    uv_cond_broadcast(&t->wake);
    uv_mutex_unlock(&t->mutex);
    work(t, 0);
    uv_mutex_lock(&t->mutex);
    while (t->n_busy > 0) {
        uv_cond_wait(&t->idle, &t->mutex);
    }
    uv_mutex_unlock(&t->mutex);
}

enum qd_code worker_threads_new(int n, struct worker_threads **ret, struct qd_error *err)
{
    if (n < 1 || n > WORKER_THREADS_MAX) {
        return qd_fail_on(err, QD_INVALID, "threads", "threads is %d, allowed: 1 to %d", n,
                          WORKER_THREADS_MAX);
    }
    struct worker_threads *t = calloc(1, sizeof(*t));
    uv_thread_t *thread = calloc((size_t)n, sizeof(*thread));
    if (t == NULL || thread == NULL) {
        free(t);
        free(thread);
        return qd_fail(err, QD_NO_MEMORY, "out of memory for %d threads", n);
    }
    t->n = n;
    t->thread = thread;
    /* These fail only for want of memory, before anything is shared. */
    if (uv_mutex_init(&t->mutex) != 0 || uv_cond_init(&t->wake) != 0 ||
        uv_cond_init(&t->idle) != 0) {
        free(t);
        free(thread);
        return qd_fail(err, QD_NO_MEMORY, "out of memory for %d threads", n);
    }
    for (int i = 0; i < n - 1; i++) {
        int code = uv_thread_create(&t->thread[i], thread_main, t);
        if (code != 0) {
            worker_threads_free(t);
            return qd_fail(err, QD_NO_MEMORY, "cannot start thread %d of %d: %s", i + 2, n,
                           uv_strerror(code));
        }
        t->n_started++;
    }
    *ret = t;
    return QD_OK;
}

void worker_threads_free(struct worker_threads *t)
{
    if (t == NULL) {
        return;
    }
    uv_mutex_lock(&t->mutex);
    t->stop = true;
    uv_cond_broadcast(&t->wake);
    uv_mutex_unlock(&t->mutex);
    for (int i = 0; i < t->n_started; i++) {
        uv_thread_join(&t->thread[i]);
    }
    uv_cond_destroy(&t->idle);
    uv_cond_destroy(&t->wake);
    uv_mutex_destroy(&t->mutex);
    free(t->thread);
    free(t);
}

struct qc_threads worker_threads_callback(struct worker_threads *threads)
{
    return (struct qc_threads){
        .n_threads = threads->n, .parallel_for = parallel_for, .ctx = threads};
}
