#include "node-agent/cli/table.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"

static void add(struct table *table, char *text)
{
    if (table->n_cells == table->room) {
        table->room = table->room > 0 ? 2 * table->room : 64;
        table->cells = xrealloc(table->cells, table->room, sizeof(char *));
    }
    table->cells[table->n_cells++] = text;
}

void table_new(struct table *table, const char *titles)
{
    *table = (struct table){0};
    AUTO_FREE char *copy = xstrdup(titles);
    char *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word && table->n_columns < TABLE_MAX_COLUMNS;
         word = strtok_r(NULL, " ", &rest)) {
        for (char *p = word; *p; p++)
            if (*p == '-')
                *p = ' ';
        add(table, xstrdup(word));
        table->n_columns++;
    }
}

void table_cell(struct table *table, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    add(table, xstrdup(*text ? text : "-"));
}

/* Characters, not bytes: UTF-8 continuation bytes have no width. */
static size_t width(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

void table_print(struct table *table, FILE *out)
{
    size_t widths[TABLE_MAX_COLUMNS] = {0};
    for (size_t i = 0; i < table->n_cells; i++) {
        size_t w = width(table->cells[i]), column = i % table->n_columns;
        widths[column] = w > widths[column] ? w : widths[column];
    }
    for (size_t i = 0; i < table->n_cells; i++) {
        size_t column = i % table->n_columns;
        bool last = column == table->n_columns - 1;
        if (out)
            (void)fputs(table->cells[i], out);
        if (out && last)
            (void)fputc('\n', out);
        else if (out)
            (void)fprintf(out, "%*s", (int)(widths[column] - width(table->cells[i]) + 2), "");
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){0};
}

void json_add_text(struct json_object *object, const char *key, const char *text)
{
    json_object_object_add(object, key, text ? json_object_new_string(text) : NULL);
}

void json_add_natural(struct json_object *object, const char *key, int64_t number)
{
    json_object_object_add(object, key, number < 0 ? NULL : json_object_new_int64(number));
}

void json_add_flag(struct json_object *object, const char *key, bool flag)
{
    json_object_object_add(object, key, json_object_new_boolean(flag));
}

void json_print(struct json_object *root, FILE *out)
{
    (void)fprintf(out, "%s\n",
                  json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY |
                                                           JSON_C_TO_STRING_SPACED |
                                                           JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(root);
}
