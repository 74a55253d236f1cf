/*
 * fault.h - a fault in core0 itself ends in a logged reboot, never in a silent halt.
 */
#pragma once

/* Installs handlers for SIGSEGV and its kind, on a stack of their own. */
void fault_arm(void);
/* Writes the sentence to the kernel's log and the console, then restarts the machine. Async-signal-safe. */
_Noreturn void fault_reboot(const char *sentence);
