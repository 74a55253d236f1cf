/*
 * smart.h - what a disk says of its own health, parsed. Functions over the device's own pages; any bytes are safe.
 *
 * Sources: NVMe base specification 2.0, figure 207 (log page 02h); ATA ACS-4 7.48 and SFF-8035i (SMART); SCSI SPC-5 and
 * SBC-4 (log pages 0Dh, 15h, 2Fh).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smart_health {
    SMART_UNKNOWN, /* the device does not say */
    SMART_GOOD,
    SMART_WARNING, /* something was lost or worn, or it is too hot; it goes on */
    SMART_FAILING, /* the device itself expects to fail */
};

struct smart {
    enum smart_health health;
    char reason[96]; /* of a warning or failure; else "" */
    bool has_temperature, has_hours, has_worn;
    int temperature; /* degrees Celsius */
    uint64_t hours;  /* powered on */
    unsigned worn;   /* percent of the endurance that the maker gives; may pass 100 */
};

const char *smart_health_name(enum smart_health health);
/* Raises the health to at least this; the reason of the worst stays. */
__attribute__((format(printf, 3, 4))) void smart_raise(struct smart *smart,
                                                       enum smart_health health, const char *fmt,
                                                       ...);

/* Each adds to *smart what its page tells. 0, or -EBADMSG: not such a page, or it ends early. */
int smart_parse_nvme(const uint8_t *log, size_t len, struct smart *smart);
/* The 512 bytes of SMART READ DATA. */
int smart_parse_ata_data(const uint8_t *data, size_t len, struct smart *smart);
/* The sense data in which a SATL returns the registers of SMART RETURN STATUS. */
int smart_parse_ata_status(const uint8_t *sense, size_t len, struct smart *smart);
/* A SCSI log page: 0Dh, 15h or 2Fh; of others nothing is taken. */
int smart_parse_scsi_log(const uint8_t *page, size_t len, struct smart *smart);
/* IDENTIFY DEVICE: does the disk have SMART, switched on? */
bool smart_identify_has_smart(const uint8_t *words, size_t len);
