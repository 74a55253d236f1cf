/*
 * view.h - what a service sees of the file system: a mount namespace of its own, in which it can write only where its file
 * says so (ProtectSystem=, ReadWritePaths=, … of systemd.exec(5)).
 *
 * Two kinds. A slave of the node's namespace gets what is mounted and unmounted there, and nothing of its own shows
 * outside. A peer (MountFlags=shared) is for daemons that mount for the whole node: what they mount appears everywhere, and only
 * flags of mounts, which do not spread, can differ; so a peer can have the root read-only and nothing else of this.
 */
#pragma once

#include <stdbool.h>

#include "init/unit.h"

/* True if the unit asks for anything that needs a namespace. */
bool view_is_wanted(const struct unit *unit);

/*
 * Enters the view: in the child, as root, between clone and exec; makes system calls only. `root` stands in front of paths
 * (core_path()). Folders of RuntimeDirectory= and StateDirectory= can be written too. 0, or -errno with *ret_where
 * naming what failed (a string of the unit or a constant).
 */
int view_enter(const struct unit *unit, const char *root, const char **ret_where);
