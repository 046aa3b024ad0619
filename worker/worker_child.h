/* The child's side of a job: quantd worker, started by the pool. */
#ifndef WORKER_CHILD_H
#define WORKER_CHILD_H

/* Reads the job from WORKER_CHILD_FD, confines itself, runs quantcore, sends the result or the
 * error. Returns the process's exit code: 0 when either was sent. */
int worker_child_main(void);

#endif
