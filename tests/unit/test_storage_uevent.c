// The kernel's messages about devices: which speak of a whole disk. The socket is a real one.
// sources: core0/storage/uevent.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "storage/uevent.h"

#define HEAD "add@/devices/pci0000:00/0000:00:03.0/virtio1/block/vdb"
#define DISK                                                                                       \
    HEAD "\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=block\0MAJOR=254\0DEVNAME=vdb\0"             \
         "DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=1234"

static void test_messages(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        bool disk;
    } cases[] = {
#define CASE(text, disk) {text, sizeof(text), disk}
        CASE(DISK, true),
        CASE("remove@/devices/x\0SUBSYSTEM=block\0DEVTYPE=disk", true),
        CASE("add@/devices/x\0SUBSYSTEM=block\0DEVTYPE=partition", false),
        CASE("add@/devices/x\0SUBSYSTEM=net\0DEVTYPE=disk", false),
        CASE("add@/devices/x\0XSUBSYSTEM=block\0DEVTYPE=disk", false),
        CASE("add@/devices/x\0SUBSYSTEM=blocked\0DEVTYPE=disk", false),
        CASE("libudev\0SUBSYSTEM=block\0DEVTYPE=disk", false), /* udev's own, which has no '@' */
        CASE("", false),
#undef CASE
        {"add@/devices/x\0SUBSYSTEM=block\0DEVTYPE=disk", 43, false}, /* its end is cut off */
        {"add@/devices/x", 14, false},
        {"", 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(uevent_is_disk(cases[i].text, cases[i].len), cases[i].disk);
}

static void note(void *data)
{
    *(int *)data += 1;
}

static uint32_t port_of_the_socket(void)
{
    /* The socket is the program's only one of this protocol, so the kernel gave it the process's number. */
    return (uint32_t)getpid();
}

static void test_only_the_kernel_is_heard(void **state)
{
    struct loop *loop;
    struct uevent *uevent;
    int calls = 0;
    (void)state;
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(uevent_new(loop, note, &calls, &uevent), 0);
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = port_of_the_socket()};
    assert_true(fd >= 0);
    ssize_t sent = sendto(fd, DISK, sizeof(DISK), 0, (struct sockaddr *)&to, sizeof(to));
    if (sent < 0)
        skip(); /* only root may send at all */
    assert_int_equal(sent, sizeof(DISK));
    assert_true(loop_step(loop, 1000) >= 0);
    assert_int_equal(calls, 0);
    close(fd);
    loop_free(loop);
    free(uevent); /* a daemon keeps its own as long as it runs */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_only_the_kernel_is_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
