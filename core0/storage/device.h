/*
 * device.h - asking a disk about itself: ATA through SAT-4, SCSI by SG_IO (linux/sg.h), NVMe by its own ioctl.
 *
 * A sick disk can hold whoever asks for minutes: only a child calls these. Disks of hypervisors (virtio) and memory
 * cards have nothing to say, and bridges of USB are not asked, since some hang on commands that they do not know.
 */
#pragma once

#include "class.h"
#include "disk.h"
#include "smart.h"

/* fd: the whole disk, open for reading. What cannot be learned stays unknown. */
enum class_said device_class(const struct disk *disk, int fd);
struct smart device_smart(const struct disk *disk, int fd);
/* Reads pairs (class.h) without the page cache, for at most a second and a read. Opens the disk itself. */
enum class_seen device_measure(const struct disk *disk, struct class_pair *ret_typical);
