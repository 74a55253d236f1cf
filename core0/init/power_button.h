/*
 * power_button.h - the machine's power button (ACPI, or a hypervisor's "shut down"): an orderly power off.
 */
#pragma once

struct core;

void power_button_open(struct core *core);
