/*
 * seccomp.c - see seccomp.h.
 *
 * The set is a bit per system call number; the program walks its ranges. What the kernel can decide from the
 * number alone it caches in a bitmap (since 5.11), so the length of the walk costs nothing at run time.
 */
#include "init/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECCOMP_CALLS 1024u /* numbers of system calls; the highest of today is below 500 */

#if defined(__x86_64__)
#define SECCOMP_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define SECCOMP_ARCH AUDIT_ARCH_AARCH64
#else
#error "name the audit architecture of this target"
#endif

/* One string instead of an array of pointers: in a PIE every pointer costs a relocation besides itself. */
#define SYSCALL(name) #name "\0"
static const char seccomp_names[] =
#include "init/syscalls.inc"
    ;
#undef SYSCALL
#define SYSCALL(name) SYS_##name,
static const uint16_t seccomp_numbers[] = {
#include "init/syscalls.inc"
};
#undef SYSCALL

/* Groups are what a daemon never needs, so that "~@mount @module …" reads as what it means. */
static const struct {
    const char *name;
    const char *calls; /* words; may name other groups */
} seccomp_groups[] = {
    {"@clock", "adjtimex clock_adjtime clock_settime settimeofday"},
    {"@cpu-emulation", "modify_ldt"},
    {"@debug",
     "lookup_dcookie perf_event_open pidfd_getfd process_vm_readv process_vm_writev ptrace kcmp"},
    {"@bpf", "bpf"},
    {"@io-uring", "io_uring_enter io_uring_register io_uring_setup"},
    {"@keyring", "add_key keyctl request_key"},
    {"@module", "delete_module finit_module init_module"},
    {"@mount", "chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree "
               "pivot_root umount2"},
    {"@namespace", "setns unshare"},
    {"@obsolete", "_sysctl afs_syscall create_module get_kernel_syms getpmsg nfsservctl putpmsg "
                  "query_module security "
                  "sysfs tuxcall uselib ustat vserver"},
    {"@raw-io", "ioperm iopl"},
    {"@reboot", "kexec_file_load kexec_load reboot"},
    {"@swap", "swapoff swapon"},
    {"@process-foreign", "@debug process_madvise move_pages migrate_pages"},
    {"@privileged", "@clock @module @mount @raw-io @reboot @swap @bpf acct quotactl vhangup syslog "
                    "setdomainname sethostname"},
    {"@dangerous",
     "@privileged @cpu-emulation @process-foreign @keyring @namespace @obsolete userfaultfd "
     "name_to_handle_at open_by_handle_at personality"},
};

static const char seccomp_always[] = "execve exit exit_group rt_sigreturn";

struct seccomp_set {
    uint8_t bits[SECCOMP_CALLS / 8];
};

static bool seccomp_has(const struct seccomp_set *set, unsigned number)
{
    return ((unsigned)set->bits[number / 8] >> (number % 8) & 1u) != 0;
}

static int seccomp_find_call(const char *name, size_t len)
{
    const char *at = seccomp_names;

    for (size_t i = 0; i < COUNT(seccomp_numbers); i++) {
        size_t one = strlen(at);

        if (one == len && memcmp(at, name, len) == 0)
            return seccomp_numbers[i];
        at += one + 1;
    }
    return -EINVAL;
}

static int seccomp_add(struct seccomp_set *set, const char *word, size_t len, int depth);

static int seccomp_add_words(struct seccomp_set *set, const char *words, int depth)
{
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        int ret = len > 0 ? seccomp_add(set, words, len, depth) : 0;

        if (ret < 0)
            return ret;
        words += len;
        words += strspn(words, " ");
    }
    return 0;
}

static int seccomp_add(struct seccomp_set *set, const char *word, size_t len, int depth)
{
    int number;

    if (word[0] == '@') {
        for (size_t i = 0; i < COUNT(seccomp_groups) && depth < 4; i++) {
            if (strlen(seccomp_groups[i].name) == len &&
                memcmp(seccomp_groups[i].name, word, len) == 0)
                return seccomp_add_words(set, seccomp_groups[i].calls, depth + 1);
        }
        return -EINVAL;
    }
    number = seccomp_find_call(word, len);
    if (number < 0)
        /* A group may name calls that an architecture never had (uselib on arm64). */
        return depth > 0 ? 0 : -EINVAL;
    if ((unsigned)number >= SECCOMP_CALLS)
        return -EINVAL;
    set->bits[number / 8] = (uint8_t)(set->bits[number / 8] | 1u << (number % 8));
    return 0;
}

bool seccomp_knows(const char *word)
{
    struct seccomp_set set = {0};

    return seccomp_add(&set, word, strlen(word), 0) == 0;
}

static const struct sock_filter seccomp_prologue[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_ARCH, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
};

int seccomp_build(char *const *words, size_t count, bool deny, int error,
                  struct sock_filter *program, size_t max, size_t *ret_len)
{
    const uint32_t refuse = error != 0 ? SECCOMP_RET_ERRNO | ((uint32_t)error & SECCOMP_RET_DATA)
                                       : SECCOMP_RET_KILL_PROCESS;
    struct seccomp_set set = {0};
    size_t len = COUNT(seccomp_prologue);
    int ret = 0;

    for (size_t i = 0; i < count && ret == 0; i++)
        ret = seccomp_add(&set, words[i], strlen(words[i]), 0);
    if (ret == 0 && !deny)
        ret = seccomp_add_words(&set, seccomp_always, 1);
    if (ret < 0)
        return ret;
    if (max < len + 1)
        return -E2BIG;
    memcpy(program, seccomp_prologue, sizeof(seccomp_prologue));

    /* Ranges in rising order: below the range's begin the answer is "not in the set"; below its end "in". */
    for (unsigned begin = 0; begin < SECCOMP_CALLS;) {
        unsigned end = begin;

        if (!seccomp_has(&set, begin)) {
            begin++;
            continue;
        }
        while (end < SECCOMP_CALLS && seccomp_has(&set, end))
            end++;
        if (max < len + 5)
            return -E2BIG;
        program[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, begin, 1, 0);
        program[len++] =
            (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, deny ? SECCOMP_RET_ALLOW : refuse);
        program[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, end, 1, 0);
        program[len++] =
            (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, deny ? refuse : SECCOMP_RET_ALLOW);
        begin = end;
    }
#if defined(__x86_64__)
    /* x32 calls have the same architecture and numbers from 2^30 on: nothing of ours makes them. */
    program[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, refuse);
    if (deny) {
        if (max < len + 2)
            return -E2BIG;
        program[len - 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 1u << 30, 1, 0);
        program[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        program[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, refuse);
    }
#else
    program[len++] =
        (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, deny ? SECCOMP_RET_ALLOW : refuse);
#endif
    *ret_len = len;
    return 0;
}

int seccomp_load(const struct sock_filter *program, size_t len)
{
    /* The kernel only reads it; its structure has no const. */
    const union {
        const struct sock_filter *given;
        struct sock_filter *taken;
    } filter = {.given = program};
    const struct sock_fprog fprog = {.len = (unsigned short)len, .filter = filter.taken};

    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog) < 0)
        return -errno;
    return 0;
}
