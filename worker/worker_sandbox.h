/* What a child gives up before it reads a byte of input. */
#ifndef WORKER_SANDBOX_H
#define WORKER_SANDBOX_H

#include "quantcore/base/qd_error.h"

struct worker_sandbox {
    const char *scratch;     /* the only folder that stays writable; NULL: none */
    int first_input_fd;      /* n_inputs descriptors from here may be opened again for reading */
    unsigned n_inputs;
    uint64_t memory_limit;   /* RLIMIT_AS in bytes, 0: none; not under AddressSanitizer */
    uint64_t file_limit;     /* RLIMIT_FSIZE in bytes, 0: none */
    unsigned max_descriptors; /* RLIMIT_NOFILE, 0: as inherited */
};
struct worker_sandbox_level {
    bool landlock; /* file access is confined */
    bool seccomp;  /* network, exec and ptrace are refused */
};

/* rlimits, no core file, death with the parent, no_new_privs: these must work, else QD_IO.
 * Landlock and seccomp where the kernel has them; *ret_level says what was reached. Cannot be
 * undone. Call it before threads are started. */
QD_MUST_CHECK enum qd_code worker_sandbox_enter(const struct worker_sandbox *sandbox,
                                                struct worker_sandbox_level *ret_level,
                                                struct qd_error *err);

#endif
