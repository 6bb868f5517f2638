#include "cdi/names.h"

#include <string.h>

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_alnum(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9');
}

static bool is_name(const char *s, size_t len, bool letter_first, const char *between)
{
    if (len == 0 || !is_alnum(s[len - 1]) || !(letter_first ? is_letter(s[0]) : is_alnum(s[0])))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(s[i]) && (s[i] == '\0' || !strchr(between, s[i])))
            return false;
    return true;
}

bool cdi_name_is_vendor(const char *s, size_t len)
{
    return is_name(s, len, true, "_-.");
}

bool cdi_name_is_class(const char *s, size_t len)
{
    return is_name(s, len, true, "_-.");
}

bool cdi_name_is_device(const char *s, size_t len)
{
    return is_name(s, len, false, "_-.:");
}

/* Does another device already have @name by @rank or a better one? */
static bool taken_by_other(const struct cdi_entry *entries, size_t n, size_t self, unsigned rank)
{
    const char *name = entries[self].names[rank];
    for (size_t i = 0; i < n; i++) {
        if (i == self)
            continue;
        for (unsigned r = 0; r <= rank; r++)
            if (strcmp(entries[i].names[r], name) == 0)
                return true;
    }
    return false;
}

static bool has_better(const struct cdi_entry *entry, unsigned rank)
{
    for (unsigned r = 0; r < rank; r++)
        if (strcmp(entry->names[r], entry->names[rank]) == 0)
            return true;
    return false;
}

void cdi_names_settle(struct cdi_entry *entries, size_t n)
{
    for (unsigned rank = RANK_ID + 1; rank < RANK_MAX; rank++) {
        bool ambiguous = false;
        for (size_t i = 0; i < n; i++)
            if (entries[i].names[rank][0] && taken_by_other(entries, n, i, rank))
                ambiguous = true;
        for (size_t i = 0; i < n; i++)
            if (ambiguous || has_better(&entries[i], rank))
                entries[i].names[rank][0] = '\0';
    }
}
