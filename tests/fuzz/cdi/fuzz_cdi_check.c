/* The checker of CDI files: every finding stays printable, bounded and complete. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cdi/cdi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_printable(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cdi_report report = {0};
    cdi_check_text("fuzz.yaml", (const char *)data, size, &report);
    if (report.n > CDI_MAX_FINDINGS || (report.n == 0 && report.n_devices == 0))
        abort();
    for (size_t i = 0; i < report.n; i++) {
        must_be_printable(report.findings[i].cause);
        if (report.findings[i].cause[0] == '\0' || report.findings[i].cure[0] == '\0')
            abort();
    }
    cdi_report_free(&report);
    return 0;
}
