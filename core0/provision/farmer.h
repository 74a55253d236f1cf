/*
 * farmer.h - whose farm this node is in, as the registry's storage proves it. gated lets that address see the machine.
 *
 * What was proved once is believed until another proof says otherwise, over a restart and without a chain, but only for the chain, the
 * registry, the farm and the trust that it was proved for. Nobody is believed unproved.
 */
#pragma once

#include "provision/provision.h"

/* What an earlier provd proved, from the state folder. */
void farmer_resume(struct provision *provision);
/* A proof said so (watch.h); what is not on disk yet is kept there. The zero address, of a farm that is not there, is nobody. */
void farmer_proved(struct provision *provision, const uint8_t farmer[20]);
