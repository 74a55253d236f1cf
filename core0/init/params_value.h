/*
 * params_value.h - checks of single values of boot parameters, each a function over a string.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A decimal number within [1, 2^53 - 1]. */
bool params_is_number(const char *text, uint64_t *ret_number);
/* scheme://host[:port][/path], the scheme one of the words in `schemes` ("http https"); no blank, no control. */
bool params_is_url(const char *text, const char *schemes);
bool params_is_plain_url(const char *text); /* http: or ws: */
bool params_is_host(const char *text);      /* a host name, or an IPv4 or IPv6 address */
bool params_is_ip(const char *text);        /* an IPv4 or IPv6 address */
bool params_is_interface(const char *text); /* a network interface's name */
bool params_is_eth_address(const char *text);
bool params_is_net(const char *text);  /* croft.net's forms */
bool params_is_vlan(const char *text); /* IFACE.ID */
bool params_is_bond(const char *text); /* NAME,MODE,IFACE+IFACE */
