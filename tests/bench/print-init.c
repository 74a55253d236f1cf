// The yardstick of the boot benchmarks: an init that prints one line and waits. Runs from the same
// initramfs as core0, chosen by rdinit=.
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

int main(void)
{
    static const char line[] = "print-init: running\n";
    mount("devtmpfs", "/dev", "devtmpfs", 0, "");
    int fd = open("/dev/console", O_WRONLY);
    if (fd >= 0) {
        (void)!write(fd, line, sizeof line - 1);
    }
    for (;;) {
        pause();
    }
}
