#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <json-c/json.h>
#include <stdlib.h>

#include "node-agent/cli/table.h"

static char *text;
static size_t len;

static FILE *open_text(void)
{
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    return out;
}

static void test_columns(void **state)
{
    (void)state;
    struct table table;
    FILE *out = open_text();
    table_new(&table, "BDF IN-USE-BY LAST");
    table_cell(&table, "%s", "0000:18:00.0");
    table_cell(&table, "%s", "");
    table_cell(&table, "%d", 1);
    table_cell(&table, "%s", "a");
    table_cell(&table, "%s", "qemu (pid 12)");
    table_cell(&table, "%s", "long last cell");
    table_print(&table, out);
    (void)fclose(out);
    assert_string_equal(text, "BDF           IN USE BY      LAST\n"
                              "0000:18:00.0  -              1\n"
                              "a             qemu (pid 12)  long last cell\n");
    free(text);
}

/* A process name is text from outside: it must not paint on the terminal. */
static void test_control_characters(void **state)
{
    (void)state;
    struct table table;
    FILE *out = open_text();
    table_new(&table, "A B");
    table_cell(&table, "%s", "x\033[31m\ny");
    table_cell(&table, "%s", "\xc3\xa4z");
    table_print(&table, out);
    (void)fclose(out);
    assert_string_equal(text, "A         B\nx?[31m?y  \xc3\xa4z\n");
    free(text);
}

static void test_json(void **state)
{
    (void)state;
    struct json_object *o = json_object_new_object();
    FILE *out = open_text();
    json_add_text(o, "text", "a/b");
    json_add_text(o, "none", NULL);
    json_add_natural(o, "n", 0);
    json_add_natural(o, "absent", -1);
    json_add_flag(o, "flag", true);
    json_print(o, out);
    (void)fclose(out);
    struct json_object *back = json_tokener_parse(text);
    assert_string_equal(json_object_to_json_string_ext(back, JSON_C_TO_STRING_PLAIN),
                        "{\"text\":\"a\\/b\",\"none\":null,\"n\":0,\"absent\":null,\"flag\":true}");
    json_object_put(back);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
