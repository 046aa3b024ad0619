#include "worker/worker_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Builds for tests: AddressSanitizer reserves terabytes of address space, and its search for leaks
 * at the end of the process reads /proc and attaches to the threads with ptrace. */
#ifdef __SANITIZE_ADDRESS__
#define UNDER_ASAN 1
#else
#define UNDER_ASAN 0
#endif

static enum qd_code set_limit(int what, const char *name, uint64_t value, struct qd_error *err)
{
    struct rlimit old, limit = {.rlim_cur = value, .rlim_max = value};
    if (getrlimit((__rlimit_resource_t)what, &old) == 0 && old.rlim_max < value) {
        limit = (struct rlimit){.rlim_cur = old.rlim_max, .rlim_max = old.rlim_max};
    }
    if (setrlimit((__rlimit_resource_t)what, &limit) != 0) {
        return qd_fail_errno(err, errno, "set %s to %llu", name, (unsigned long long)value);
    }
    return QD_OK;
}

/* Everything that Landlock's first version knows is handled, so that it is refused unless a
 * rule allows it. */
#define READ_ACCESS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define SCRATCH_ACCESS                                                                        \
    (READ_ACCESS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |              \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                           \
     LANDLOCK_ACCESS_FS_REMOVE_DIR)
#define ALL_ACCESS                                                                            \
    (SCRATCH_ACCESS | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |             \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                            \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static bool allow_path(int ruleset, const char *path, uint64_t access)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access};
    rule.parent_fd = open(path, O_PATH | O_CLOEXEC | O_DIRECTORY);
    if (rule.parent_fd < 0) {
        return errno == ENOENT;
    }
    long rc = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(rule.parent_fd);
    return rc == 0;
}

/* An input is opened again through /proc/self/fd at every pass: the file itself is allowed. */
static bool allow_inputs(int ruleset, int first_fd, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct landlock_path_beneath_attr rule = {.allowed_access =
                                                      LANDLOCK_ACCESS_FS_READ_FILE,
                                                  .parent_fd = first_fd + (int)i};
        if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
            return false;
        }
    }
    return true;
}

static bool enter_landlock(const struct worker_sandbox *sandbox)
{
    const char *scratch = sandbox->scratch;
    struct landlock_ruleset_attr attr = {.handled_access_fs = ALL_ACCESS};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (ruleset < 0) {
        return false;
    }
    bool ok = allow_path(ruleset, "/usr", READ_ACCESS) && allow_path(ruleset, "/etc", READ_ACCESS);
    ok = ok && allow_path(ruleset, UNDER_ASAN ? "/proc" : "/proc/self/fd", READ_ACCESS) &&
         allow_inputs(ruleset, sandbox->first_input_fd, sandbox->n_inputs);
    if (scratch != NULL) {
        ok = ok && allow_path(ruleset, scratch, SCRATCH_ACCESS);
    }
    ok = ok && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    close(ruleset);
    return ok;
}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(call)                                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), RETURN(SECCOMP_RET_ERRNO | EPERM)

static bool enter_seccomp(void)
{
#ifdef ARCH
    struct sock_filter filter[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
#ifdef __x86_64__
        /* The x32 calls share the architecture under other numbers. */
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
#endif
#if UNDER_ASAN
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
#endif
        REFUSE(SYS_socket), REFUSE(SYS_socketpair), REFUSE(SYS_connect), REFUSE(SYS_bind),
        REFUSE(SYS_listen), REFUSE(SYS_execve), REFUSE(SYS_execveat), REFUSE(SYS_ptrace),
        REFUSE(SYS_process_vm_readv), REFUSE(SYS_process_vm_writev), REFUSE(SYS_mount),
        REFUSE(SYS_bpf), REFUSE(SYS_perf_event_open), REFUSE(SYS_keyctl), REFUSE(SYS_add_key),
        REFUSE(SYS_unshare), REFUSE(SYS_setns), REFUSE(SYS_io_uring_setup),
        /* The daemon runs as the same user. abort() and raise() take tgkill. */
        REFUSE(SYS_kill), REFUSE(SYS_tkill), REFUSE(SYS_rt_sigqueueinfo),
        REFUSE(SYS_rt_tgsigqueueinfo), REFUSE(SYS_pidfd_send_signal), REFUSE(SYS_pidfd_getfd),
        REFUSE(SYS_userfaultfd), REFUSE(SYS_kexec_load), REFUSE(SYS_init_module),
        RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = QD_COUNT_OF(filter), .filter = filter};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
#else
    return false;
#endif
}

enum qd_code worker_sandbox_enter(const struct worker_sandbox *sandbox,
                                  struct worker_sandbox_level *ret_level, struct qd_error *err)
{
    QD_TRY(set_limit(RLIMIT_CORE, "RLIMIT_CORE", 0, err));
    if (sandbox->memory_limit > 0 && !UNDER_ASAN) {
        QD_TRY(set_limit(RLIMIT_AS, "RLIMIT_AS", sandbox->memory_limit, err));
    }
    if (sandbox->file_limit > 0) {
        QD_TRY(set_limit(RLIMIT_FSIZE, "RLIMIT_FSIZE", sandbox->file_limit, err));
    }
    if (sandbox->max_descriptors > 0) {
        QD_TRY(set_limit(RLIMIT_NOFILE, "RLIMIT_NOFILE", sandbox->max_descriptors, err));
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return qd_fail_errno(err, errno, "give up privileges");
    }
    *ret_level = (struct worker_sandbox_level){.landlock = enter_landlock(sandbox),
                                               .seccomp = enter_seccomp()};
    return QD_OK;
}
