// dm-linear NAME DEVICE: maps a whole block device one to one and prints the new device's path. The baseline of dm-crypt: all of
// device mapper but the cipher. By the kernel's own interface (linux/dm-ioctl.h), as the image has no dmsetup.
#include <err.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

static struct {
    struct dm_ioctl head;
    struct dm_target_spec target;
    char parameters[256];
} request;

static void call(int control, const char *name, unsigned long what)
{
    request.head = (struct dm_ioctl){.version = {DM_VERSION_MAJOR, 0, 0},
                                     .data_size = sizeof(request),
                                     .data_start = offsetof(typeof(request), target),
                                     .target_count = what == DM_TABLE_LOAD};
    snprintf(request.head.name, sizeof(request.head.name), "%s", name);
    if (ioctl(control, what, &request) < 0)
        err(1, "device mapper: %s", name);
}

int main(int argc, char **argv)
{
    int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC),
        device = argc == 3 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
    uint64_t bytes;

    if (control < 0 || device < 0 || ioctl(device, BLKGETSIZE64, &bytes) < 0)
        err(1, "dm-linear NAME DEVICE");
    call(control, argv[1], DM_DEV_CREATE);
    request.target =
        (struct dm_target_spec){.length = bytes / 512,
                                .next = sizeof(request.target) + sizeof(request.parameters),
                                .target_type = "linear"};
    snprintf(request.parameters, sizeof(request.parameters), "%s 0", argv[2]);
    call(control, argv[1], DM_TABLE_LOAD);
    call(control, argv[1], DM_DEV_SUSPEND); /* without its flag: resumes */
    printf("/dev/dm-%u\n", minor(request.head.dev));
    return 0;
}
