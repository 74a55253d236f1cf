/*
 * main.c - netd: links and addresses of the node, bridges and firewall of its containers, names and time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gen/interfaces.h"
#include "lib/daemon.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/notify.h"
#include "netd.h"

static const char *option_busybox = "/bin/busybox";
static const char *option_events = "/run/croft/net/events";
static const char *option_resolv_conf = "/run/croft/net/resolv.conf";

static const char *option_state = "/run/croft/net/state.json";

static const struct daemon_option options[] = {
    {"--state", "FILE", "networks and ports (/run/croft/net/state.json)", &option_state},
    {"--busybox", "PATH", "has ntpd (/bin/busybox)", &option_busybox},
    {"--events", "PATH", "where it reports (/run/croft/net/events)", &option_events},
    {"--resolv-conf", "FILE", "DNS servers of the node (/run/croft/net/resolv.conf)",
     &option_resolv_conf},
    {NULL, NULL, NULL, NULL},
};

/* Once for each cause: a kernel without nf_tables would say it at every event. */
static void tell_failure(struct netd *netd, const struct error *err)
{
    if (strcmp(netd->last_failure, err->message) == 0)
        return;
    memcpy(netd->last_failure, err->message, sizeof(netd->last_failure));
    log_error(err, "firewall");
    notify_error(err);
}

static void on_networks_changed(void *data)
{
    struct netd *netd = data;

    forwarder_follow(netd->forwarder);
}

static void on_links_changed(void *data)
{
    struct netd *netd = data;
    struct address ntp[CONFIG_NTP_MAX];

    struct error err = {0};

    netd_publish(netd);
    /* The rules name the links' own networks. */
    if (networks_links_changed(netd->networks, &err) < 0)
        tell_failure(netd, &err);
    clock_set_servers(netd->clock, ntp, links_ntp(netd->links, ntp, CONFIG_NTP_MAX),
                      links_ways(netd->links));
}

static void on_report(const struct helper_report *report, void *data)
{
    struct netd *netd = data;

    clock_report(netd->clock, report);
}

static int start(struct daemon *daemon, void **ret_state, struct error *err)
{
    struct netd *netd = calloc(1, sizeof(*netd));
    struct links_options links = {.changed = on_links_changed, .data = netd};
    struct error bad = {0};
    int r;

    if (netd == NULL)
        return error_set(err, ENOMEM, "net.no-memory", NULL, "no memory");
    netd->loop = daemon_loop(daemon);
    netd->resolv_conf = option_resolv_conf;
    /* A value that cannot be read must not cut the node off: it asks on every link, and says what is wrong. */
    if (config_load(daemon_boot_path(daemon), &netd->config, &bad) < 0) {
        log_error(&bad, "boot parameters");
        notify_error(&bad);
        error_clear(&bad);
    }
    r = helper_socket_new(netd->loop, option_events, on_report, netd, &netd->helpers, err);
    if (r == 0)
        r = clock_new(netd->loop, &netd->config, option_busybox, option_events, &netd->clock);
    if (r == 0)
        r = links_new(netd->loop, &netd->config, &links, &netd->links, err);
    if (r == 0)
        r = networks_new(netd->links, option_state, on_networks_changed, netd, &netd->networks,
                         err);
    if (r < 0)
        return r;
    r = forwarder_new(netd->loop, networks_state(netd->networks), netd->links, &netd->forwarder);
    if (r < 0)
        return error_set(err, -r, "net.no-memory", NULL, "no memory");
    if (networks_converge(netd->networks, 0, &bad) < 0)
        tell_failure(netd, &bad);
    *ret_state = netd;
    return 0;
}

static void stop(void *state)
{
    struct netd *netd = state;

    forwarder_free(netd->forwarder);
    networks_free(netd->networks);
    links_free(netd->links);
    clock_free(netd->clock);
    helper_socket_free(netd->helpers);
    free(netd);
}

/* initramfs/etc/passwd */
#define UID_NODED 105
#define UID_PROVD 106
#define UID_GATED 108

/* Who asks for what: docs/services.md. */
static const uid_t watchers[] = {UID_NODED, UID_GATED, VARLINK_UID_END};
static const uid_t provd[] = {UID_PROVD, VARLINK_UID_END};

static const struct varlink_method methods[] = {
    {"org.croft.net.GetStatus", netd_get_status, watchers},
    {"org.croft.net.List", netd_list, provd},
    {"org.croft.net.EnsureNetwork", netd_ensure_network, provd},
    {"org.croft.net.Attach", netd_attach, provd},
    {"org.croft.net.Detach", netd_detach, provd},
    {"org.croft.net.Expose", netd_expose, provd},
    {"org.croft.net.RemoveReservation", netd_remove_reservation, provd},
};

int main(int argc, char **argv)
{
    const struct varlink_interface interfaces[] = {
        {"org.croft.net", varlink_org_croft_net, methods, sizeof(methods) / sizeof(methods[0])},
    };
    const struct daemon_spec spec = {
        .name = "netd",
        .summary = "links, addresses, bridges, firewall, names and time of a node",
        .interfaces = interfaces,
        .interface_count = 1,
        .options = options,
        .socket_mode = 0666, /* methods have their own callers */
        .start = start,
        .stop = stop,
    };

    if (getenv(HELPER_SOCKET_ENV) != NULL)
        return helper_script_main(argc, argv);
    return daemon_main(&spec, argc, argv);
}
