/*
 * fault.h - points at which storaged can be made to die, so that tests see what is left.
 *
 * With runmode=dev a file /run/croft/fault/storaged.<name> makes storaged kill itself at that point, once.
 */
#pragma once

/* Reads the run mode; without this no point does anything. */
void fault_start(const char *boot_path);
void fault_point(const char *name);
