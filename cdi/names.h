/* Legal CDI names and the names that one device gets within one kind. Pure. */
#ifndef CCN_CDI_NAMES_H
#define CCN_CDI_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "cdi/cdi.h"

/* Grammar of CDI SPEC.md: a vendor and a class start with a letter, a device with a letter or digit; all end with
 * a letter or digit. A dot in a class needs CDI 0.6.0, so ours have none. */
bool cdi_name_is_vendor(const char *s, size_t len);
bool cdi_name_is_class(const char *s, size_t len);
bool cdi_name_is_device(const char *s, size_t len);

enum cdi_rank { RANK_ID, RANK_INDEX, RANK_BDF, RANK_CDEV, RANK_NUMBER, RANK_MAX };

/* One device of one kind with the names it may have; an empty name is none. */
struct cdi_entry {
    char bdf[16];
    char node[48]; /* "" = withdrawn: its names are nobody else's, and nothing stands behind them */
    int iommu_group;
    char names[RANK_MAX][CDI_NAME_SIZE];
};

/* cdi_names_settle() - empties every name of a rank that is ambiguous, and names that repeat a better one of the
 * same device, so that no name is left twice. The ids (rank 0) must be distinct already. */
void cdi_names_settle(struct cdi_entry *entries, size_t n);

#endif
