#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/trim.h"

/* Relocated at start and then read-only: the copy that is lost if such pages are given back. */
static const char *const words[] = {"one", "two", "three"};
static int (*const functions[])(const char *text) = {puts, atoi};

/* Resident kilobytes of the mapping that begins at @p. */
static long resident(const void *p)
{
    AUTO_FCLOSE FILE *f = fopen("/proc/self/smaps", "re");
    char line[512], want[32];
    bool mine = false;
    (void)snprintf(want, sizeof want, "%lx-", (unsigned long)(uintptr_t)p);
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, want, strlen(want)) == 0)
            mine = true;
        if (mine && strncmp(line, "Rss:", 4) == 0)
            return strtol(line + 4, NULL, 10);
    }
    return -1;
}

static void test_code_comes_back(void **state)
{
    (void)state;
    trim_memory();
    trim_memory();
    assert_string_equal(words[2], "three");
    assert_int_equal(functions[1]("42"), 42);
    AUTO_FREE char *text = xasprintf("%.3f %s", 1.5, words[0]);
    assert_string_equal(text, "1.500 one");
}

static void test_what_is_given_back(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    char path[] = "/tmp/trim-XXXXXX";
    AUTO_CLOSE int fd = mkstemp(path);
    assert_true(fd >= 0);
    AUTO_FREE char *content = xmalloc(SIZE);
    memset(content, 'c', SIZE);
    assert_int_equal(write(fd, content, SIZE), SIZE);
    char *plain = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    char *changed = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    memset(changed, 'd', SIZE);
    assert_int_equal(mprotect(changed, SIZE, PROT_READ), 0);
    assert_int_equal(resident(plain), SIZE / 1024);
    trim_memory();
    assert_int_equal(resident(plain), 0);
    assert_int_equal(plain[SIZE - 1], 'c');
    assert_int_equal(resident(changed), SIZE / 1024); /* not the file's any more: kept */
    assert_int_equal(changed[SIZE - 1], 'd');
    (void)munmap(plain, SIZE);
    (void)munmap(changed, SIZE);
    (void)unlink(path);
}

/* Pages of @fd in the page cache. */
static int cached(int fd, size_t size)
{
    unsigned char pages[256];
    assert_true(size / 4096 <= sizeof pages);
    void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0); /* shared: not ours to give back */
    assert_int_equal(mincore(p, size, pages), 0);
    (void)munmap(p, size);
    int n = 0;
    for (size_t i = 0; i < size / 4096; i++)
        n += pages[i] & 1;
    return n;
}

/* A file that was hardly used between two calls leaves the page cache, one in use stays whole. */
static void test_what_leaves_the_page_cache(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20, PAGE = 4096, PAGES = SIZE / PAGE };
    AUTO_FREE char *path = xasprintf(
        "%s/trim-XXXXXX", getenv("CCNODE_BUILD") ?: "."); /* /tmp may have no disk below */
    AUTO_CLOSE int fd = mkstemp(path);
    assert_true(fd >= 0);
    AUTO_FREE char *content = xmalloc(SIZE);
    memset(content, 'c', SIZE);
    assert_int_equal(write(fd, content, SIZE), SIZE);
    /* dirty pages stay; and what one write made may leave only as a whole */
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    assert_int_equal(pread(fd, content, SIZE, 0), SIZE);
    char *map = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    trim_memory();
    for (int i = 0; i < PAGES / 2; i++)
        assert_int_equal(*(volatile char *)(map + (size_t)i * PAGE), 'c');
    trim_memory();
    assert_int_equal(cached(fd, SIZE), PAGES);
    assert_int_equal(*(volatile char *)(map + SIZE / 2), 'c');
    trim_memory();
    assert_in_range(cached(fd, SIZE), 1,
                    PAGES / 8); /* what is mapped around the one that was read */
    assert_int_equal(map[SIZE - 1], 'c');
    (void)munmap(map, SIZE);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_comes_back),
        cmocka_unit_test(test_what_is_given_back),
        cmocka_unit_test(test_what_leaves_the_page_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
