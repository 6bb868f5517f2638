#include "base/resource_name.h"

#include <string.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

bool resource_name_ok(const char *text)
{
    size_t n = strnlen(text, RESOURCE_NAME_MAX + 1);
    return n > 0 && n <= RESOURCE_NAME_MAX && strchr(LETTERS, text[0]) &&
           strchr(LETTERS DIGITS, text[n - 1]) && strspn(text, LETTERS DIGITS "_-") == n;
}
