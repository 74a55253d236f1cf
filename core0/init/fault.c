/*
 * fault.c - see fault.h. Only system calls: the heap may be what is broken.
 */
#include "init/fault.h"

#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static char fault_stack[16384];

static void fault_write(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0)
        return;
    /* What cannot be written is not worth waiting for. */
    if (write(fd, text, len) >= 0)
        close(fd);
}

_Noreturn void fault_reboot(const char *sentence)
{
    static const char kernel_prefix[] = "<1>core0: ";
    char line[400];
    size_t len = strlen(sentence);

    if (len > sizeof(line) - sizeof(kernel_prefix) - 2)
        len = sizeof(line) - sizeof(kernel_prefix) - 2;
    memcpy(line, kernel_prefix, sizeof(kernel_prefix) - 1);
    memcpy(line + sizeof(kernel_prefix) - 1, sentence, len);
    line[sizeof(kernel_prefix) - 1 + len] = '\n';
    fault_write("/dev/kmsg", line, sizeof(kernel_prefix) + len);
    if (write(STDERR_FILENO, line + 3, sizeof(kernel_prefix) - 3 + len) < 0) {
        /* nobody listens; go on */
    }
    if (getpid() == 1) {
        syscall(SYS_sync);
        syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART,
                NULL);
    }
    /* Not PID 1, or the kernel refused: dying as PID 1 is a panic, and panic= restarts. */
    _exit(111);
}

static char *fault_put(char *at, const char *text)
{
    while (*text != '\0')
        *at++ = *text++;
    return at;
}

static char *fault_put_hex(char *at, uintptr_t value)
{
    static const char digits[] = "0123456789abcdef";

    at = fault_put(at, "0x");
    for (int shift = (int)sizeof(value) * 8 - 4; shift >= 0; shift -= 4)
        *at++ = digits[value >> shift & 0xf];
    return at;
}

static uintptr_t fault_instruction(const void *context)
{
    const ucontext_t *state = context;

#if defined(__x86_64__)
    return (uintptr_t)state->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)state->uc_mcontext.pc;
#else
    return 0;
#endif
}

static void fault_handler(int signo, siginfo_t *info, void *context)
{
    char sentence[256];
    char *at = fault_put(sentence, "fault: signal ");

    if (signo >= 10)
        *at++ = (char)('0' + signo / 10);
    *at++ = (char)('0' + signo % 10);
    at = fault_put(at, " at address ");
    at = fault_put_hex(at, (uintptr_t)info->si_addr);
    at = fault_put(at, ", instruction ");
    /* Relative to this function, so that the address can be found in the file wherever the kernel put it. */
    at = fault_put_hex(at, fault_instruction(context));
    at = fault_put(at, ", fault_handler is ");
    at = fault_put_hex(at, (uintptr_t)fault_handler);
    at = fault_put(at, "; the machine restarts");
    *at = '\0';
    fault_reboot(sentence);
}

void fault_arm(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
    const stack_t stack = {.ss_sp = fault_stack, .ss_size = sizeof(fault_stack)};
    struct sigaction action = {.sa_sigaction = fault_handler,
                               .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)};

    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
}
