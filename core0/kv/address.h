/*
 * address.h - "ADDRESS:PORT" as people write it; IPv6 in brackets. No names: kvd asks no resolver.
 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#define ADDRESS_HOST_MAX 64

/* 0 with the host (empty: none was given) and the port's text inside `text`; -EINVAL. */
int address_split(const char *text, char ret_host[ADDRESS_HOST_MAX], const char **ret_port);
/* 0; -EINVAL. Without a host it is every address of this machine, for who listens; others must give one. */
int address_parse(const char *text, bool to_listen, struct sockaddr_storage *ret,
                  socklen_t *ret_len);
