/* Tables that people can read, and the few JSON helpers that the commands share. */
#ifndef CCN_CLI_TABLE_H
#define CCN_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_object;

#define TABLE_MAX_COLUMNS 16

struct table {
    size_t n_columns, n_cells, room;
    char **cells; /* n_columns a row; the first row are the titles */
};

/* table_new() - titles as one text with blanks between: "BDF NAME IN-USE-BY" ("-" is shown as a blank) */
void table_new(struct table *table, const char *titles);
/* table_cell() - the next cell; control characters are made visible; "" becomes "-" */
void table_cell(struct table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* table_print() - columns two blanks apart, the last one as long as it is; empties the table. @out NULL:
 * only that. */
void table_print(struct table *table, FILE *out);

/* Members; a NULL text becomes null, as does a number below 0 with json_add_natural(). */
void json_add_text(struct json_object *object, const char *key, const char *text);
void json_add_natural(struct json_object *object, const char *key, int64_t number);
void json_add_flag(struct json_object *object, const char *key, bool flag);
/* json_print() - indented, and a newline; drops the object */
void json_print(struct json_object *root, FILE *out);

#endif
