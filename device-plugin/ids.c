#include "device-plugin/ids.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* "vfio3" -> 3; -1 when it is nothing of the kind */
static int cdev_number(const char *cdev)
{
    if (strncmp(cdev, "vfio", 4) != 0 || !isdigit((unsigned char)cdev[4]) || strlen(cdev) > 12)
        return -1;
    char *end;
    long n = strtol(cdev + 4, &end, 10);
    return *end ? -1 : (int)n;
}

void dp_id(enum dp_id_style style, const struct dp_names *names, char *ret, size_t room)
{
    int n = cdev_number(names->cdev);
    if (n < 0)
        n = names->iommu_group;
    if (style == DP_ID_NUMBER && n >= 0)
        (void)snprintf(ret, room, "%d", n);
    else
        (void)snprintf(ret, room, "%s", names->bdf);
}

bool dp_id_names(const char *id, const struct dp_names *names)
{
    char text[16];
    if (strcasecmp(id, names->bdf) == 0)
        return true;
    if (names->cdev[0] && strcmp(id, names->cdev) == 0)
        return true;
    (void)snprintf(text, sizeof text, "%d", names->iommu_group);
    if (names->iommu_group >= 0 && strcmp(id, text) == 0)
        return true;
    (void)snprintf(text, sizeof text, "%d", cdev_number(names->cdev));
    return text[0] != '-' && strcmp(id, text) == 0;
}
