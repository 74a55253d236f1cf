/*
 * fault.h - points at which a daemon can be made to die or to stand still, so that tests see what is left.
 *
 * With runmode=dev a file /run/croft/fault/<program>.<point> does it when the program passes that point, once. An empty file: the
 * program kills itself. A file that says "hold": it tells of it by the event "fault" and stops itself (SIGSTOP), as if the machine
 * ended there; whoever made the file then cuts the power, or continues it. /run/croft is root's, so only root can make such a file.
 */
#pragma once

#include <stddef.h>

/* Takes up the program's name and the run mode; without this no point does anything. daemon_main() does it. */
void fault_start(const char *program, const char *boot_path);
/* A point: its name as printf makes it. */
__attribute__((format(printf, 1, 2))) void fault_point(const char *fmt, ...);
/* How much of something there is: `limit`, or less when the file /run/croft/fault/<program>.<what> says so (runmode=dev), so that
 * a test meets an end that would take thousands of what is used up. Asked each time: it ends with the file. */
size_t fault_limit(const char *what, size_t limit);
